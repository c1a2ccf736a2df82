"""A trained network as one file that runs without this package: StableHLO by `jax.export`, or ONNX.

Both take and give pictures in [0, 1] in float32. They are run against the JAX network before they are written.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from multifocal_jax.errors import UserError
from multifocal_jax.files import write_whole
from multifocal_jax.networks import Implementation, build_network
from multifocal_jax.padding import pad_to_multiple, round_up
from multifocal_jax.weights import Weights

TOLERANCE = 1e-4  # largest absolute difference from the JAX network in float32
PLATFORMS = ("cpu", "cuda", "tpu")
# For the few runs that compare, an optimised compilation does not pay.
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KNOWN_PLATFORMS = (*PLATFORMS, "rocm")


class ExportError(UserError):
    """A network cannot be exported. The message says why, and how to fix it."""


def forward(
    weights: Weights, implementation: Implementation = "fast", *, open_shape: bool = False
) -> Callable[[jax.Array], jax.Array]:
    """What is exported: (B, H, W, 3) float32 in [0, 1] → the same, de-rained and clipped; H, W multiples of 8.

    Args:
        weights: of the network.
        implementation: see `build_network`.
        open_shape: likewise.
    """
    network = build_network(weights.model, implementation, open_shape=open_shape)
    params = jax.tree.map(lambda value: np.asarray(value, np.float32), weights.params)

    def derain(rainy: jax.Array) -> jax.Array:
        return jnp.clip(network.apply({"params": params}, rainy), 0, 1)

    return derain


def export_stablehlo(
    path: str | Path,
    weights: Weights,
    *,
    batch: int | None = None,
    size: tuple[int, int] | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Write a `jax.export` artifact, checked against the JAX network, complete or not at all.

    `jax.export.deserialize(bytes).call(rainy)` runs it on (B, H, W, 3) float32 in [0, 1].

    Args:
        path: file to write.
        weights: of the network.
        batch: fixed number of pictures; None leaves it open.
        size: fixed height and width; None leaves them open, in multiples of `weights.model.multiple`.
        platforms: on which it shall run.

    Raises:
        ExportError: the size does not suit the network, or the artifact does not agree with it.
    """
    multiple = weights.model.multiple
    _check_size(size, multiple)
    height, width = size or (f"{multiple}*h", f"{multiple}*w")
    shape = jax.export.symbolic_shape(f"{'b' if batch is None else batch}, {height}, {width}, 3")
    derain = forward(weights, open_shape=batch is None or size is None)

    def serialised(platforms: Sequence[str]) -> bytearray:
        export = jax.export.export(jax.jit(derain), platforms=platforms)
        return export(jax.ShapeDtypeStruct(shape, jnp.float32)).serialize()

    here = jax.export.default_export_platform()
    with jax.default_matmul_precision("highest"):
        content = serialised(platforms)
        # What cannot run here is compared by a copy that can.
        again = jax.export.deserialize(content if here in platforms else serialised([*platforms, here]))
        sizes = [size] if size else [(2 * multiple, 3 * multiple), (5 * multiple, 2 * multiple)]
        for index, (h, w) in enumerate(sizes):
            rainy = _picture(batch or 1 + index, h, w)
            _compare("the exported artifact", np.asarray(_jit(again.call)(rainy)), np.asarray(_jit(derain)(rainy)))
    write_whole(path, lambda file: file.write(content))


def export_onnx(
    path: str | Path, weights: Weights, *, batch: int | None = None, size: tuple[int, int] | None = None
) -> None:
    """Write an ONNX model, checked with onnxruntime against the JAX network, complete or not at all.

    Input `rainy` and output `derained` are (B, 3, H, W) float32 in [0, 1]. Any size of at least
    `weights.model.multiple` pixels will do: the model reflects the picture up to a multiple and crops back.

    Args:
        path: file to write.
        weights: of the network.
        batch: fixed number of pictures; None leaves it open.
        size: fixed height and width; None leaves them open.

    Raises:
        ExportError: onnx or onnxruntime is not installed, or the model does not agree with the JAX network.
    """
    try:
        import onnxruntime

        from multifocal_jax.interop.onnx_graph import build_onnx
    except ImportError as error:
        raise ExportError(f"writing ONNX needs onnx and onnxruntime ({error}): pip install '.[onnx]'") from None

    multiple = weights.model.multiple
    if size is not None and min(size) < multiple:
        raise ExportError(f"size {size[0]}×{size[1]} is too small: at least {multiple} pixels on each side")
    content = build_onnx(weights, batch=batch, size=size)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    derain = _jit(forward(weights, "reference"))
    sizes = [size] if size else [(2 * multiple, 3 * multiple), (3 * multiple + 3, 2 * multiple + 1)]
    for index, (h, w) in enumerate(sizes):
        rainy = _picture(batch or 1 + index, h, w)
        padded = pad_to_multiple(rainy, multiple)
        with jax.default_matmul_precision("highest"):
            expected = np.asarray(derain(padded))[:, :h, :w]
        (found,) = session.run(None, {"rainy": np.ascontiguousarray(rainy.transpose(0, 3, 1, 2))})
        _compare("the ONNX model", np.asarray(found).transpose(0, 2, 3, 1), expected)
    write_whole(path, lambda file: file.write(content))


def _check_size(size: tuple[int, int] | None, multiple: int) -> None:
    if size is not None and (min(size) < multiple or size[0] % multiple or size[1] % multiple):
        up = [max(multiple, round_up(side, multiple)) for side in size]
        raise ExportError(
            f"size {size[0]}×{size[1]}: height and width must be multiples of {multiple}, for instance {up[0]}×{up[1]}"
        )


def _picture(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((batch, height, width, 3), np.float32)


def _compare(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    largest = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
    if not largest < TOLERANCE:
        raise ExportError(
            f"{what} differs from the JAX network by {largest:.1e}, more than {TOLERANCE:.0e}; nothing was written"
        )
