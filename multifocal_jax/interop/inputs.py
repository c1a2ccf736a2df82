"""The inputs with which the frameworks are compared."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from multifocal_jax.padding import pad_to_multiple

_SMALL = (43, 61)  # height and width of the pictures compared block by block
_PHOTOGRAPH = 321  # longer side in pixels of the photograph to de-rain: processed in strips of rows at two levels
_CROPS = (2, 96, 128)  # of the training crops: processed in strips, too


@dataclass(frozen=True)
class Inputs:
    """Inputs for both frameworks.

    Attributes:
        batch: (B, H, W, 3), float64 in [0, 1], height and width at least `model.multiple`; small, as all intermediates
            are kept and compared.
        photograph: (1, H, W, 3) uint8, de-rained as `derain` does; None leaves that out.
        crops: (B, H, W, 3), float64 in [0, 1], on which training computes gradients; None leaves that out.
    """

    batch: np.ndarray
    photograph: np.ndarray | None = None
    crops: np.ndarray | None = None

    def __str__(self) -> str:
        """Shapes."""
        of_programs = (("derain", self.photograph), ("training", self.crops))
        shapes = [f" and for {name} {_shape(images)}" for name, images in of_programs if images is not None]
        return f"inputs (batch × height × width) {_shape(self.batch)}" + "".join(shapes)

    def pair(self, multiple: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Rainy crops, padded to this multiple, and clean ones.

        These differ by ±1, so that rounding cannot change the sign of a difference and with it the L1 loss's gradient.
        """
        if self.crops is None:
            return None
        rainy = pad_to_multiple(self.crops, multiple)
        return rainy, rainy + np.random.default_rng(0).choice((-1.0, 1.0), rainy.shape)


def _shape(images: np.ndarray) -> str:
    return "×".join(map(str, images.shape[:3]))


def verification_inputs(photograph: str | Path | None = None, seed: int = 0) -> Inputs:
    """Inputs that have broken ports before: several pictures, odd sizes, a photograph, and one of a usual size.

    Args:
        photograph: file; default: scikit-image's astronaut or, if scikit-image is not installed, noise.
        seed: of the noise.

    Raises:
        ImageError: the photograph cannot be read.
    """
    random = np.random.default_rng(seed)
    noise = random.random((2, *_SMALL, 3))
    pixels = _photograph(photograph)
    if pixels is None:
        pixels = random.integers(0, 256, (241, 321, 3), np.uint8)
    scale = _PHOTOGRAPH / max(pixels.shape[:2])
    large = _resized(pixels, *(max(_SMALL[0], round(side * scale)) for side in pixels.shape[:2]))
    small = _resized(pixels, *_SMALL).astype(np.float64) / 255
    return Inputs(np.concatenate([noise, small[None]]), large[None], random.random((*_CROPS, 3)))


def _photograph(path: str | Path | None) -> np.ndarray | None:
    """(H, W, 3) uint8."""
    if path is not None:
        from multifocal_jax.data.images import read_image

        return read_image(path)
    try:
        from skimage.data import astronaut
    except ImportError:
        return None
    return astronaut()[:384]


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
