"""Which of the kernels for NVIDIA GPUs to use: those that the GPU at hand has run, and rightly."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from multifocal_jax.ops import band_attention

VARIABLE = "MULTIFOCAL_GPU_KERNELS"  # "off" uses none
TOLERANCE = 0.02  # of the largest number; bfloat16 has 8 bits


def find_fused_attention(dtype: DTypeLike, depth: int) -> ModuleType | None:
    """`fused_attention` where it takes queries of this dtype and depth and works on the default device, or None.

    It is tried once, on a small batch, and compared with `band_attention`; if that fails, a line in the log says why.
    `MULTIFOCAL_GPU_KERNELS=off` in the environment does without it.
    """
    if jax.default_backend() != "gpu" or os.environ.get(VARIABLE) == "off":
        return None
    module = _try_fused_attention()
    return module if module and module.fits(dtype, depth) else None


@cache
def _try_fused_attention() -> ModuleType | None:
    try:
        from multifocal_jax.ops import fused_attention  # only here: elsewhere its imports would only cost time

        with ThreadPoolExecutor(1) as thread:  # of its own, as this one may be tracing the network
            thread.submit(_compare, fused_attention, band_attention).result()
    except Exception as error:  # whatever a compiler, a driver or an old GPU has to say
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        logging.getLogger(__name__).warning("the GPU kernel of the attention is not used, as it fails here: %s", reason)
        return None
    return fused_attention


def _compare(module: ModuleType, reference: ModuleType) -> None:
    """Raise ArithmeticError unless both give the same attention and gradients on random numbers."""
    random = np.random.default_rng(0)
    shapes = (4, 1, 100, 16), (4, 1, 110, 16), (4, 1, 110, 16), (1, 100, 64)
    *bands, gradient = (jnp.asarray(random.normal(size=shape), jnp.bfloat16) for shape in shapes)
    bands = [list(stacked) for stacked in bands]
    ours, theirs = (
        jax.tree.leaves((way.attend(*bands), way.attend_gradients(*bands, gradient))) for way in (module, reference)
    )
    for found, expected in zip(ours, theirs, strict=True):
        found, expected = (np.asarray(x, np.float32) for x in (found, expected))
        off, limit = np.abs(found - expected).max(), TOLERANCE * np.abs(expected).max()
        if not off <= limit:
            raise ArithmeticError(f"off by {off:.2g}, more than {limit:.2g}")
