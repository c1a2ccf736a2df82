"""The network of `models` for the machine: the same blocks from the same parameters, in less time and memory.

What it does otherwise than the paper writes it: strips of rows that stay in the cache, Winograd's products, pixel
shuffles by phases, pooling before projecting, gradients of its own, one program for pictures of many sizes, and one
basic module in a loop. docs/performance.md says what each is worth.
"""

from multifocal_jax.fast.network import derain

__all__ = ["derain"]
