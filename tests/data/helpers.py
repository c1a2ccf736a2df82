"""What tests of data share."""

from PIL import Image


def save(path, pixels, **options):
    """Write a picture, uint8 (H, W[, 3]), and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path
