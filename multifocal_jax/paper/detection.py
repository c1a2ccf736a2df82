"""Section 4.4 of the paper: are more persons detected after de-raining?

The paper used a commercial service. Here OpenCV's people detector (histograms of oriented gradients and a linear
support vector machine, Dalal and Triggs 2005) is used, which needs no download: its counts are not the paper's.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.panels import side_by_side

_COLOUR = (255, 40, 40)


class DetectionError(UserError):
    """The detector is not available."""


class Person(NamedTuple):
    """A detected person: a box in pixels and the detector's score (distance from the decision boundary)."""

    left: int
    top: int
    width: int
    height: int
    score: float


Detector = Callable[[np.ndarray], list[Person]]


def people_detector(threshold: float = 0.0) -> Detector:
    """OpenCV's detector: from (H, W, 3) uint8 RGB to persons of at least this score, by descending score.

    Raises:
        DetectionError: OpenCV is not installed.
    """
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DetectionError("detection needs OpenCV: pip install 'multifocal-jax[detection]'") from None
    hog = cv2.HOGDescriptor()
    hog.setSVMDetector(cv2.HOGDescriptor.getDefaultPeopleDetector())

    def detect(picture: np.ndarray) -> list[Person]:
        height, width = picture.shape[:2]
        scale = max(1.0, 128 / height, 64 / width)  # the detector's window
        if scale > 1:
            picture = np.asarray(Image.fromarray(picture).resize((round(width * scale), round(height * scale))))
        boxes, scores = hog.detectMultiScale(
            np.ascontiguousarray(picture[..., ::-1]), hitThreshold=threshold, winStride=(4, 4), scale=1.03
        )
        found = []
        for box, score in zip(boxes, np.ravel(scores), strict=True):
            left, top, across, down = (round(float(side) / scale) for side in box)
            found.append(Person(left, top, across, down, float(score)))
        return sorted(found, key=lambda person: -person.score)

    return detect


def compare(
    detect: Detector, derain: Callable[[np.ndarray], np.ndarray], rainy: np.ndarray
) -> tuple[list[Person], list[Person], np.ndarray]:
    """Detect persons before and after de-raining; `derain` maps (H, W, 3) uint8 RGB to the same.

    Returns:
        The persons in the rainy and in the de-rained picture, and both pictures side by side with boxes and scores,
        uint8 RGB.
    """
    pictures = rainy, derain(rainy)
    before, after = (detect(picture) for picture in pictures)
    titles = f"rainy: {len(before)} detected", f"de-rained: {len(after)} detected"
    drawn = [draw_people(picture, people) for picture, people in zip(pictures, (before, after), strict=True)]
    return before, after, side_by_side(list(zip(titles, drawn, strict=True)))


def draw_people(picture: np.ndarray, people: list[Person]) -> np.ndarray:
    """The picture with boxes and scores; (H, W, 3) uint8 RGB to the same."""
    canvas = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for person in people:
        box = (person.left, person.top, person.left + person.width, person.top + person.height)
        draw.rectangle(box, outline=_COLOUR, width=2)
        label = f"{person.score:.2f}"
        left, top, right, bottom = draw.textbbox((box[0] + 3, box[1] + 2), label, font)
        draw.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=_COLOUR)
        draw.text((box[0] + 3, box[1] + 2), label, "white", font)
    return np.asarray(canvas)
