"""From a dataset's shards to the batches that the model takes."""
