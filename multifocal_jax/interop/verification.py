"""Both frameworks on the same inputs, compared block by block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from multifocal_jax.interop.intermediates import blocks, flax_intermediates, torch_intermediates
from multifocal_jax.padding import pad_to_multiple

if TYPE_CHECKING:
    from multifocal_jax.interop.torch_network import MultifocalNet as TorchNet

FLOAT64_TOLERANCE = 1e-10  # at every block, relative to the block's largest value
FLOAT32_TOLERANCE = 1e-5  # at the output


@dataclass(frozen=True)
class Difference:
    """How far two versions of a block are apart.

    Attributes:
        name: of the block.
        absolute: largest absolute difference; infinite where shapes differ or a value is not finite.
        relative: the same over the block's largest absolute value.
        note: what is wrong where the difference is infinite.
    """

    name: str
    absolute: float
    relative: float
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Differences at all blocks in the order of computation, with the tolerance that they are held to."""

    title: str
    rows: tuple[Difference, ...]
    tolerance: float
    checked: frozenset[str]

    @property
    def first_over(self) -> Difference | None:
        """The first block over tolerance."""
        return next((row for row in self.rows if row.name in self.checked and not row.relative < self.tolerance), None)

    @property
    def ok(self) -> bool:
        """Whether every block that is held to the tolerance is within it."""
        return self.first_over is None

    def only(self, *names: str) -> "Comparison":
        """The comparison of these blocks alone."""
        rows = tuple(row for row in self.rows if row.name in names)
        return replace(self, rows=rows, checked=self.checked & set(names))

    def table(self) -> str:
        """Plain text, one line per block; `<<<` marks the first one over tolerance."""
        width = max(len(row.name) for row in self.rows)
        lines = [self.title, f"{'block':{width}}  largest abs  largest rel"]
        for row in self.rows:
            mark = f"  <<< first over {self.tolerance:.0e}" if row is self.first_over else ""
            note = f"  {row.note}" if row.note else ""
            lines.append(f"{row.name:{width}}  {row.absolute:11.2e}  {row.relative:11.2e}{mark}{note}")
        worst = max((row for row in self.rows if row.name in self.checked), key=lambda row: row.relative)
        verdict = "agree" if self.ok else "DIFFER"
        lines.append(
            f"{verdict}: largest relative difference {worst.relative:.2e} at {worst.name}, tolerance "
            f"{self.tolerance:.0e} {'at the output' if len(self.checked) == 1 else 'at every block'}"
        )
        return "\n".join(lines)


def difference(name: str, ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Compare one block; `theirs` gives the scale."""
    if ours.shape != theirs.shape:
        return Difference(name, np.inf, np.inf, f"shapes {ours.shape} and {theirs.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return Difference(name, np.inf, np.inf, "values that are not finite")
    if not ours.size:
        return Difference(name, 0.0, 0.0)
    absolute = float(np.abs(ours.astype(np.float64) - theirs).max())
    return Difference(name, absolute, absolute / max(float(np.abs(theirs).max()), np.finfo(np.float64).tiny))


def verify(
    params: Mapping[str, Any],
    network: "TorchNet",
    inputs: Sequence[np.ndarray],
    precision: Literal["float64", "float32"] = "float64",
) -> Comparison:
    """Run both networks in one precision on CPU and compare every block, the worst of all inputs each.

    In float64 every block is held to `FLOAT64_TOLERANCE`, in float32 the output to `FLOAT32_TOLERANCE`.

    Args:
        params: parameters of the JAX network.
        network: the PyTorch network with its own parameters; it comes back in `precision`.
        inputs: batches (B, H, W, 3) in [0, 1] of any height and width of at least `network.config.multiple`.
        precision: of both computations.
    """
    import torch

    config = network.config
    network = network.to(dtype=getattr(torch, precision)).eval()
    worst: dict[str, Difference] = {}
    cpu = jax.devices("cpu")[0]
    with jax.enable_x64(precision == "float64"), jax.default_matmul_precision("highest"), jax.default_device(cpu):
        for images in inputs:
            padded = pad_to_multiple(images, config.multiple).astype(precision)
            ours = flax_intermediates(params, config, padded)
            theirs = torch_intermediates(network, padded)
            for name in theirs:
                row = difference(name, ours[name], theirs[name])
                if name not in worst or not row.relative <= worst[name].relative:
                    worst[name] = row
    sizes = ", ".join("×".join(map(str, images.shape[:3])) for images in inputs)
    names = [block.name for block in blocks(config)]
    return Comparison(
        title=f"{precision} on CPU, inputs (batch × height × width) {sizes}",
        rows=tuple(worst[name] for name in names),
        tolerance=FLOAT64_TOLERANCE if precision == "float64" else FLOAT32_TOLERANCE,
        checked=frozenset(names if precision == "float64" else ["output"]),
    )


def verification_inputs(photograph: str | Path | None = None, seed: int = 0) -> list[np.ndarray]:
    """Batches that have broken ports before: several pictures, odd sizes, a photograph.

    Args:
        photograph: file; without one scikit-image's astronaut is used where scikit-image is installed.
        seed: of the random batch.

    Returns:
        Batches (B, H, W, 3), float64 in [0, 1].

    Raises:
        ImageError: the photograph cannot be read.
    """
    noise = np.random.default_rng(seed).random((3, 43, 61, 3))
    picture = _photograph(photograph)
    return [noise] if picture is None else [noise, picture]


def _photograph(path: str | Path | None) -> np.ndarray | None:
    """A batch of one photograph, 97 pixels on its longer side."""
    from PIL import Image

    if path is not None:
        from multifocal_jax.data.images import read_image

        pixels = read_image(path)
    else:
        try:
            from skimage.data import astronaut
        except ImportError:
            return None
        pixels = astronaut()[:384]
    scale = 97 / max(pixels.shape[:2])
    width, height = (max(16, round(side * scale)) for side in (pixels.shape[1], pixels.shape[0]))
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(small, np.float64)[None] / 255
