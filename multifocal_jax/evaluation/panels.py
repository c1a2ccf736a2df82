"""Pictures side by side under their titles."""

from collections.abc import Sequence

import numpy as np

TITLE_HEIGHT = 24


def side_by_side(panels: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Put pictures of one size in a row, each under its title.

    Args:
        panels: titles and uint8 (H, W, 3) pictures.

    Returns:
        uint8 (H + 24, ΣW + gaps, 3) on white.
    """
    from PIL import Image, ImageDraw, ImageFont

    gap, height = 8, panels[0][1].shape[0]
    width = sum(picture.shape[1] for _, picture in panels) + gap * (len(panels) - 1)
    sheet = Image.new("RGB", (width, height + TITLE_HEIGHT), "white")
    draw, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(size=15), 0
    for title, picture in panels:
        draw.text((left + 2, 3), title, "black", font)
        sheet.paste(Image.fromarray(picture), (left, TITLE_HEIGHT))
        left += picture.shape[1] + gap
    return np.asarray(sheet)
