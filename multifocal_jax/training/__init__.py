"""Training: state, schedule, step, data parallelism, checkpoints, writers, loop."""
