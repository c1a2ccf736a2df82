"""De-rain images with the multifocal attention-based cross-scale network (ACM MM 2021), in JAX and Flax."""

__version__ = "0.1.0"
