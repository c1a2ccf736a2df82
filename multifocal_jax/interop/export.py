"""Exports a trained network as one file that runs without this package: StableHLO by `jax.export`, or ONNX.

Input and output are pictures in [0, 1] in float32. The file is compared with the JAX network before it is written.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from multifocal_jax.errors import UserError
from multifocal_jax.files import write_whole
from multifocal_jax.interop.running import quick_jit
from multifocal_jax.networks import Implementation, build_network
from multifocal_jax.padding import pad_to_multiple, round_up
from multifocal_jax.weights import Weights

TOLERANCE = 1e-4  # largest absolute difference from the JAX network in float32
PLATFORMS = ("cpu", "cuda", "tpu")
KNOWN_PLATFORMS = (*PLATFORMS, "rocm")
Derain = Callable[[jax.Array], jax.Array]


class ExportError(UserError):
    """A network cannot be exported. The message says why, and how to fix it."""


def forward(weights: Weights, implementation: Implementation = "fast", *, open_shape: bool = False) -> Derain:
    """The exported function: (B, H, W, 3) float32 in [0, 1] → the same, de-rained and clipped; H, W multiples of 8.

    The last two arguments are those of `build_network`.
    """
    network = build_network(weights.model, implementation, open_shape=open_shape)
    params = jax.tree.map(lambda value: np.asarray(value, np.float32), weights.params)
    return lambda rainy: jnp.clip(network.apply({"params": params}, rainy), 0, 1)


def export_stablehlo(
    path: str | Path,
    weights: Weights,
    *,
    batch: int | None = None,
    size: tuple[int, int] | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Write a `jax.export` artifact atomically, after comparing it with the JAX network.

    `jax.export.deserialize(bytes).call(rainy)` runs it on (B, H, W, 3) float32 in [0, 1], on each of the platforms.
    `batch` and `size` fix B and (H, W); None allows any number, and any multiples of `weights.model.multiple`.

    Raises:
        ExportError: the network does not support the size, or the artifact does not agree with the network.
    """
    multiple = weights.model.multiple
    if size is not None and (min(size) < multiple or any(side % multiple for side in size)):
        up = "×".join(str(max(multiple, round_up(side, multiple))) for side in size)
        raise ExportError(
            f"size {size[0]}×{size[1]}: height and width must be multiples of {multiple}, for instance {up}"
        )
    height, width = size or (f"{multiple}*h", f"{multiple}*w")
    shape = jax.export.symbolic_shape(f"{'b' if batch is None else batch}, {height}, {width}, 3")
    derain = forward(weights, open_shape=batch is None or size is None)

    def serialised(platforms: Sequence[str]) -> bytearray:
        export = jax.export.export(jax.jit(derain), platforms=platforms)
        return export(jax.ShapeDtypeStruct(shape, jnp.float32)).serialize()

    here = jax.export.default_export_platform()
    with jax.default_matmul_precision("highest"):
        content = serialised(platforms)
        # If the artifact cannot run here, a copy that can is compared.
        again = jax.export.deserialize(content if here in platforms else serialised([*platforms, here]))
    sizes = [size] if size else [(2 * multiple, 3 * multiple), (5 * multiple, 2 * multiple)]
    for rainy in _pictures(batch, sizes):
        _compare("the exported artifact", _run(again.call, rainy), _run(derain, rainy))
    write_whole(path, lambda file: file.write(content))


def export_onnx(
    path: str | Path, weights: Weights, *, batch: int | None = None, size: tuple[int, int] | None = None
) -> None:
    """Write an ONNX model atomically, after comparing it in onnxruntime with the JAX network.

    Input `rainy` and output `derained` are (B, 3, H, W) float32 in [0, 1]. Any size of at least
    `weights.model.multiple` pixels is possible: the model pads the picture to a multiple by reflection and crops.
    `batch` and `size` fix B and (H, W); None allows any.

    Raises:
        ExportError: onnx or onnxruntime is not installed, or the model does not agree with the JAX network.
    """
    try:
        import onnxruntime

        from multifocal_jax.interop.onnx_graph import build_onnx
    except ImportError as error:
        raise ExportError(f"ONNX needs onnx and onnxruntime ({error}): pip install 'multifocal-jax[onnx]'") from None

    multiple = weights.model.multiple
    if size is not None and min(size) < multiple:
        raise ExportError(f"size {size[1]}×{size[0]} is too small: at least {multiple} pixels on each side")
    content = build_onnx(weights, batch=batch, size=size)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    derain = forward(weights, "reference")
    sizes = [size] if size else [(2 * multiple, 3 * multiple), (3 * multiple + 3, 2 * multiple + 1)]
    for rainy in _pictures(batch, sizes):
        (found,) = session.run(None, {"rainy": np.ascontiguousarray(rainy.transpose(0, 3, 1, 2))})
        expected = _run(derain, pad_to_multiple(rainy, multiple))[:, : rainy.shape[1], : rainy.shape[2]]
        _compare("the ONNX model", np.asarray(found).transpose(0, 2, 3, 1), expected)
    write_whole(path, lambda file: file.write(content))


def _pictures(batch: int | None, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    shapes = [(batch or count, *size, 3) for count, size in enumerate(sizes, start=1)]
    return [np.random.default_rng(0).random(shape, np.float32) for shape in shapes]


def _run(derain: Derain, rainy: np.ndarray) -> np.ndarray:
    with jax.default_matmul_precision("highest"):
        return np.asarray(quick_jit(derain)(jnp.asarray(rainy)))


def _compare(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    largest = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
    if not largest < TOLERANCE:
        raise ExportError(
            f"{what} differs from the JAX network by {largest:.1e}, more than {TOLERANCE:.0e}; nothing was written"
        )
