"""PyTorch and JAX, verified against each other. Beside LPIPS the only room that imports torch."""
