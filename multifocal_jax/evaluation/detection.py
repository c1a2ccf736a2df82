"""Section 4.4 of the paper: are more persons detected after de-raining?

The paper used a commercial service. Here OpenCV's people detector (histograms of oriented gradients and a linear
support vector machine, Dalal and Triggs 2005) stands in, which needs no download: its counts are not the paper's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from multifocal_jax.errors import UserError

_COLOUR = (255, 40, 40)


class DetectionError(UserError):
    """The detector cannot be had."""


@dataclass(frozen=True)
class Person:
    """A detected person: a box in pixels and the detector's score (distance from the decision boundary)."""

    left: int
    top: int
    width: int
    height: int
    score: float


Detector = Callable[[np.ndarray], list[Person]]


def people_detector(threshold: float = 0.0) -> Detector:
    """OpenCV's detector.

    Args:
        threshold: detections of a lower score are left out.

    Returns:
        A function from (H, W, 3) uint8 RGB to persons by falling score.

    Raises:
        DetectionError: OpenCV is not installed.
    """
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DetectionError(
            "detection needs OpenCV; install it with: pip install 'opencv-python-headless<5'"
        ) from None
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


def draw_people(picture: np.ndarray, people: list[Person], title: str) -> np.ndarray:
    """The picture with boxes and scores, under a line with the title and the count.

    Args:
        picture: (H, W, 3) uint8 RGB.
        people: to be drawn.
        title: of the picture.

    Returns:
        (H + 24, W, 3) uint8.
    """
    height, width, _ = picture.shape
    canvas = Image.new("RGB", (width, height + 24), "white")
    canvas.paste(Image.fromarray(picture), (0, 24))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    draw.text((4, 3), f"{title}: {len(people)} detected", "black", font)
    for person in people:
        box = (person.left, person.top + 24, person.left + person.width, person.top + person.height + 24)
        draw.rectangle(box, outline=_COLOUR, width=2)
        label = f"{person.score:.2f}"
        left, top, right, bottom = draw.textbbox((box[0] + 3, box[1] + 2), label, font)
        draw.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=_COLOUR)
        draw.text((box[0] + 3, box[1] + 2), label, "white", font)
    return np.asarray(canvas)
