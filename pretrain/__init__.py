"""Token shards to an adapted masked language model."""
