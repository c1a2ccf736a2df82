"""Drawn pictures of what looks like rain but is not: railings, strings, meshes and hair over photographs.

A network that has never seen them takes them for rain. The releases train on them as they are, see
`configs/release_general.py`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from multifocal_jax.data.images import find_images, read_image, write_image
from multifocal_jax.errors import UserError
from multifocal_jax.files import make_folder

Line = tuple[Sequence[tuple[float, float]], float]  # points (x, y) and width, in pixels
_FINER = 4  # lines are drawn at so many times the size, so that their edges are smooth


def write_lookalikes(photographs: Path, folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` pictures `0000.png` … over the photographs of a folder, which take turns.

    Raises:
        UserError: there are no photographs, or one of the pictures exists.
    """
    files = find_images(photographs)
    if not files:
        raise UserError(f"no pictures in {photographs}")
    make_folder(folder)
    for number in range(count):
        target = folder / f"{number:04d}.png"
        if target.exists():
            raise UserError(f"{target} exists; choose another folder")
        picture = draw_lookalike(read_image(files[number % len(files)]), np.random.default_rng((seed, number)))
        write_image(target, picture)


def draw_lookalike(photograph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lines of a random kind, direction, number, width and colour over a photograph, uint8 (H, W, 3), darkened."""
    height, width, _ = photograph.shape
    ground = (photograph * rng.uniform(0.3, 1)).astype(np.uint8)
    kind = rng.choice(["railings", "strings", "mesh", "hair"])
    angle = np.radians(rng.normal(0, 4 if kind == "railings" else 25))
    if kind == "hair":
        lines = _hair(height, width, angle, rng)
    else:
        wide = kind == "railings"
        gap, thickness = (rng.uniform(9, 45), rng.uniform(2, 8)) if wide else (rng.uniform(6, 50), rng.uniform(0.7, 2))
        angles = (angle, angle + np.radians(rng.uniform(40, 90))) if kind == "mesh" else (angle,)
        lines = [line for one in angles for line in _parallel(height, width, one, gap, thickness, rng)]
    dark = ground.mean() > 110
    colour = rng.uniform(*((0, 60) if dark else (150, 250))) + rng.normal(0, 12, 3)
    return draw_lines(ground, lines, colour.clip(0, 255), blur=rng.choice([0, rng.uniform(0.3, 1.5)]))


def draw_lines(ground: np.ndarray, lines: Iterable[Line], colour: object, blur: float = 0) -> np.ndarray:
    """Draw lines over a picture, uint8 (H, W, 3), in a colour 0 to 255, blurred with a standard deviation in pixels."""
    from PIL import Image, ImageDraw, ImageFilter

    height, width, _ = ground.shape
    mask = Image.new("L", (_FINER * width, _FINER * height))
    pen = ImageDraw.Draw(mask)
    for points, thickness in lines:
        pen.line([_FINER * value for point in points for value in point], 255, max(1, round(_FINER * thickness)))
    small = mask.resize((width, height), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(float(blur)))
    share = np.asarray(small, np.float32)[..., None] / 255
    return np.round(ground + (np.asarray(colour) - ground) * share).astype(np.uint8)


def _parallel(height: int, width: int, angle: float, gap: float, thickness: float, rng: np.random.Generator) -> list:
    """Lines at an angle from the vertical, all over the picture, at distances that vary a little."""
    along, across = (np.sin(angle), np.cos(angle)), (np.cos(angle), -np.sin(angle))
    reach, jitter = float(np.hypot(height, width)), rng.choice([0, 0.25])
    lines = []
    for place in np.arange(-reach / 2, reach / 2, gap):
        place += gap * jitter * rng.standard_normal()
        x, y = width / 2 + place * across[0], height / 2 + place * across[1]
        ends = [(x + sign * reach * along[0], y + sign * reach * along[1]) for sign in (-1, 1)]
        lines.append((ends, thickness))
    return lines


def _hair(height: int, width: int, angle: float, rng: np.random.Generator) -> list[Line]:
    """Curved strokes of similar direction, in a tuft around a place in the picture."""
    count = int(height * width * rng.uniform(2e-3, 8e-3))
    centre, spread = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0.15, 0.5) * max(height, width)
    steps = np.linspace(0, 1, 9)
    lines = []
    for _ in range(count):
        x, y = rng.normal(centre, spread)
        length, bend = rng.uniform(20, 150), rng.normal(0, 0.6)
        direction = angle + rng.normal(0, 0.15) + bend * steps
        points = zip(x + length * steps * np.sin(direction), y + length * steps * np.cos(direction), strict=True)
        lines.append((list(points), rng.uniform(0.7, 1.6)))
    return lines
