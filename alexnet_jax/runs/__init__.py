"""A run on disk: workdir, checkpoints, metrics, lock and signals."""
