"""Training runs: their folder, checkpoints, log and report."""
