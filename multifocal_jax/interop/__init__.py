"""PyTorch and JAX, verified against each other. Apart from LPIPS, only this package imports torch."""
