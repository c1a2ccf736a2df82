"""PyTorch and JAX, verified against each other. The only room that may import torch."""
