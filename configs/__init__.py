"""What a run was asked (recipes and their loader) and what it did (manifests, run folders, errors, progress)."""
