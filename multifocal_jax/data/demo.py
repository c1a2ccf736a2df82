"""The embedded demo: colour photographs from scikit-image's wheel, so nothing is downloaded.

Training: an astronaut, a cup of coffee, a rocket, and the two views of the Middlebury motorcycle. Test: the cat Chelsea
and a microscope image. The stereo views show the same scene, so both are used for training.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from multifocal_jax.data.errors import DataError
from multifocal_jax.data.images import read_image

PHOTOGRAPHS = {
    "train": ("astronaut.png", "coffee.png", "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg"),
    "test": ("chelsea.png", "ihc.png"),
}


# Those in the public domain or under CC0 that documents show, with the top left corner of the part shown.
_SHOWN = {"astronaut.png": (0, 100), "chelsea.png": (0, 80), "coffee.png": (60, 150), "rocket.jpg": (60, 160)}


def shown_photographs(side: int) -> dict[str, np.ndarray]:
    """Square parts of photographs, uint8 (side, side, 3), by name; errors as for `photographs`."""
    return {
        file.stem: np.ascontiguousarray(read_image(file)[top : top + side, left : left + side])
        for file, (top, left) in zip(photographs(_SHOWN), _SHOWN.values(), strict=True)
    }


def demo_photographs(split: str) -> list[Path]:
    """Files of the demo's "train" or "test" photographs, sorted by name; errors as for `photographs`."""
    return photographs(PHOTOGRAPHS[split])


def photographs(names: Iterable[str]) -> list[Path]:
    """Files of photographs in scikit-image.

    Raises:
        DataError: scikit-image is not installed, or its wheel lacks one of the photographs.
    """
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DataError(
            "the demo's photographs are those of scikit-image, which is missing: pip install 'multifocal-jax[demo]'"
        )
    folder = Path(spec.origin).parent / "data"
    files = [folder / name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}: pip install --force-reinstall 'scikit-image>=0.25'")
    return files
