"""Which of the kernels for NVIDIA GPUs to use: those that the GPU at hand has run, and rightly."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from multifocal_jax.ops import band_attention

VARIABLE = "MULTIFOCAL_GPU_KERNELS"
DTYPE = jnp.bfloat16  # matrix units would round float32
DEPTHS = (16, 32)  # numbers per query: powers of two that matrix units take and registers hold
LEAST_CAPABILITY = 8.0
MOST_ANCHORS = 128  # for more of them registers are too few
TOLERANCE = 0.02  # of the largest number; the results are rounded to 8 bits

_failed: list[str] = []


def find_fused_attention(dtype: DTypeLike, depth: int, anchors: int) -> ModuleType | None:
    """`fused_attention` where it suits such an attention and works on the NVIDIA GPU of this process, or None.

    It is tried once, on small batches, and compared with `band_attention`; if that fails, a line in the log says why.
    `MULTIFOCAL_GPU_KERNELS=off` in the environment does without it; `untried` takes it without a trial, to compile for
    a GPU that is not at hand.

    Args:
        dtype: of queries, keys and values.
        depth: numbers per query.
        anchors: number of keys.
    """
    suits = dtype == DTYPE and depth in DEPTHS and anchors <= MOST_ANCHORS
    wanted = os.environ.get(VARIABLE)
    if not suits or wanted == "off":
        return None
    if wanted == "untried":
        return _import_fused_attention()
    gpu = _nvidia_gpu()
    return _try_fused_attention(depth, anchors, gpu) if gpu else None


def failures() -> tuple[str, ...]:
    """Why trials have failed in this process: what it compiles may be slower than it could be."""
    return tuple(_failed)


def _nvidia_gpu() -> Any:
    """One that is new enough for Triton's products of bfloat16."""
    try:
        gpu = jax.local_devices(backend="cuda")[0]
    except RuntimeError:  # there is none
        return None
    return gpu if float(gpu.compute_capability) >= LEAST_CAPABILITY else None


def _import_fused_attention() -> ModuleType:
    from multifocal_jax.ops import fused_attention  # only here: elsewhere its imports would only cost time

    return fused_attention


@cache
def _try_fused_attention(depth: int, anchors: int, gpu: Any) -> ModuleType | None:
    try:
        fused_attention = _import_fused_attention()
        with ThreadPoolExecutor(1) as thread:  # of its own, as this one may be tracing the network
            thread.submit(_compare, fused_attention, depth, anchors, gpu).result()
    except Exception as error:  # whatever a compiler, a driver or an old GPU has to say
        _failed.append(f"{type(error).__name__}: {error}".splitlines()[0])
        logging.getLogger(__name__).warning(
            "the GPU kernel of the attention is not used, as it fails here: %s; %s=off does without trying it",
            _failed[-1],
            VARIABLE,
        )
        return None
    return fused_attention


def _compare(fused_attention: ModuleType, depth: int, anchors: int, gpu: Any) -> None:
    """Raise ArithmeticError unless it gives what `band_attention` gives in float32, by few programs and by many."""
    random = np.random.default_rng(0)
    shapes = (4, 2, 1100, depth), (4, 2, anchors, depth), (4, 2, anchors, depth), (2, 1100, 4 * depth)
    with jax.default_device(gpu):
        *stacked, gradient = (jnp.asarray(random.normal(size=shape), DTYPE) for shape in shapes)
        bands = [list(x) for x in stacked]

        def run(way: ModuleType, dtype: DTypeLike, **options: Any) -> list[Any]:
            def both(gradient: Any, *bands: Any) -> Any:
                return way.attend(*bands, **options), way.attend_gradients(*bands, gradient, **options)

            given = jax.tree.map(lambda x: x.astype(dtype), (gradient, *bands))
            return [np.asarray(x, np.float32) for x in jax.tree.leaves(jax.jit(both)(*given))]

        expected = run(band_attention, jnp.float32)
        for fewest_programs in (1, 1024):
            found = run(fused_attention, DTYPE, fewest_programs=fewest_programs)
            for ours, theirs in zip(found, expected, strict=True):
                off, limit = np.abs(ours - theirs).max(), TOLERANCE * np.abs(theirs).max()
                if not off <= limit:
                    raise ArithmeticError(f"off by {off:.2g}, more than {limit:.2g}")
