"""Compares this project with its PyTorch twin: `python -m benchmarks`, described in docs/performance.md."""
