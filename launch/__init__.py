"""Start any stage: the `mindshift` command, accelerate and DeepSpeed configs, SLURM jobs."""
