"""From policies and sources to a published dataset."""
