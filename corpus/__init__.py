"""Public posts to clean, de-identified, de-duplicated documents and token shards."""
