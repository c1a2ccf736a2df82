"""Times this project beside the PyTorch twin: `python -m benchmarks`, described in docs/performance.md."""
