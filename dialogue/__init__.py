"""A small causal language model tuned to answer with empathy, behind a safety layer that the model cannot bypass."""
