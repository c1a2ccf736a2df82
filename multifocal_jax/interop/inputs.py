"""The inputs with which the frameworks are compared."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

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
        named = ((" ", self.batch), (" and for derain ", self.photograph), (" and for training ", self.crops))
        shapes = (name + "×".join(map(str, images.shape[:3])) for name, images in named if images is not None)
        return "inputs (batch × height × width)" + "".join(shapes)


def verification_inputs(photograph: str | Path | None = None) -> Inputs:
    """Inputs that have broken ports before: several pictures, odd sizes, a photograph, and one of a usual size.

    The photograph, a file, is by default scikit-image's astronaut or, if scikit-image is not installed, noise.

    Raises:
        ImageError: the photograph cannot be read.
    """
    random = np.random.default_rng(0)
    noise = random.random((2, *_SMALL, 3))
    pixels = _photograph(photograph)
    if pixels is None:
        pixels = random.integers(0, 256, (241, 321, 3), np.uint8)
    longer = max(pixels.shape[:2])
    large = _resized(pixels, *(max(_SMALL[0], round(side * _PHOTOGRAPH / longer)) for side in pixels.shape[:2]))
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
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
