"""The network of `models`, optimised: the same blocks from the same parameters, in less time and memory.

The differences from the paper's formulation: strips of rows that stay in the cache, Winograd's products, pixel shuffles
by phases, pooling before projection, hand-written gradients, one program for pictures of many sizes, and one basic
module in a loop. docs/performance-log.md says what each of them gains.
"""

from multifocal_jax.fast.network import derain

__all__ = ["derain"]
