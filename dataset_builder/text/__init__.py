"""Text corpora: sources, the ROOTS filters, deduplication, and the stage that runs them."""
