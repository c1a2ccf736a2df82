"""Blocks of 2×2 pixels as runs of channels: a pixel shuffle that moves whole runs instead of single channels."""

from jaxtyping import Array, Float


def by_phase(weights: Float[Array, "... c"]) -> Float[Array, "... c"]:
    """Order a layer's output channels so that `join_phases` does what a pixel shuffle by 2 would.

    Channel 4c + 2i + j goes to pixel (2h + i, 2w + j) of channel c (`pixel_shuffle`); here it becomes channel
    (2i + j)·C/4 + c.

    Args:
        weights: (…, C), kernel or bias.
    """
    channels = weights.shape[-1]
    return weights.reshape(*weights.shape[:-1], channels // 4, 4).swapaxes(-1, -2).reshape(weights.shape)


def join_phases(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c//4"]:
    """Arrange four runs of channels as blocks of 2×2 pixels: run 2i + j becomes pixel (2h + i, 2w + j).

    Args:
        x: (B, H, W, C), C a multiple of 4.

    Returns:
        (B, 2H, 2W, C / 4).
    """
    b, h, w, c = x.shape
    return x.reshape(b, h, w, 2, c // 2).swapaxes(2, 3).reshape(b, 2 * h, 2 * w, c // 4)


def split_phases(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 4*c"]:
    """The inverse of `join_phases`: (B, H, W, C), H and W even, to (B, H/2, W/2, 4C)."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2 * c).swapaxes(2, 3).reshape(b, h // 2, w // 2, 4 * c)
