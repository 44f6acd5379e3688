"""Encoder + labelled task → classifier, thresholds and the evidence for them; the benchmark over tasks."""
