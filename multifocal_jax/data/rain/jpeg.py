"""JPEG compression and decompression as in libjpeg by default: baseline, 4:2:0, the standard quantisation tables.

Entropy coding is lossless, so the effect of a file is computed without writing one, inside jit and for a quality that
may be traced. Sums are floats where libjpeg's are integers: occasionally a value differs by 1 of 255.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

Planes = tuple[Float[Array, "*n h w"], Float[Array, "*n h w"], Float[Array, "*n h w"]]

# ITU-T T.81, annex K.1; rows are vertical frequencies.
_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
_CHROMA = np.full((8, 8), 99, np.float32)
_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

_FREQUENCY, _PLACE = np.mgrid[:8, :8]
_DCT = (np.cos((2 * _PLACE + 1) * _FREQUENCY * np.pi / 16) * np.where(_FREQUENCY, 0.5, 8**-0.5)).astype(np.float32)


def jpeg(planes: Planes, quality: Float[Array, ""]) -> Planes:
    """Compress and decompress a picture.

    Args:
        planes: red, green and blue, (…, H, W) each, whole numbers from 0 to 255. XLA on a CPU is four times as fast
            on separate planes as on one array.
        quality: 1 to 100, as libjpeg and Pillow count.

    Returns:
        The decoded picture, likewise.
    """
    height, width = planes[0].shape[-2:]
    red, green, blue = (_pad(plane, -height % 16, -width % 16) for plane in planes)
    y = jnp.round(0.299 * red + 0.587 * green + 0.114 * blue)
    cb = jnp.round(128 - 0.168735892 * red - 0.331264108 * green + 0.5 * blue)
    cr = jnp.round(128 + 0.5 * red - 0.418687589 * green - 0.081312411 * blue)

    scale = jnp.where(quality < 50, jnp.floor(5000 / quality), 200 - 2 * jnp.round(quality))
    y = _through_blocks(y, _LUMA, scale)[..., :height, :width]
    chroma = _through_blocks(_halve(jnp.stack([cb, cr])), _CHROMA, scale)
    cb, cr = _double(chroma[..., : -(-height // 2), : -(-width // 2)])[..., :height, :width] - 128

    decoded = y + 1.402 * cr, y - 0.344136286 * cb - 0.714136286 * cr, y + 1.772 * cb
    red, green, blue = (jnp.clip(jnp.round(plane), 0, 255) for plane in decoded)
    return red, green, blue


def _pad(plane: Float[Array, "*n h w"], rows: int, columns: int) -> Float[Array, "*n y x"]:
    """Repeat the last row and column."""
    return jnp.pad(plane, [(0, 0)] * (plane.ndim - 2) + [(0, rows), (0, columns)], mode="edge")


def _through_blocks(
    plane: Float[Array, "*n h w"], table: np.ndarray, scale: Float[Array, ""]
) -> Float[Array, "*n h w"]:
    """Quantise the cosine transform of every block of 8×8 and transform back."""
    steps = jnp.clip(jnp.floor((table * scale + 50.5) / 100), 1, 255)  # a quotient of whole numbers, rounding aside
    blocks = plane.reshape(*plane.shape[:-2], plane.shape[-2] // 8, 8, plane.shape[-1] // 8, 8) - 128
    exact = lax.Precision.HIGHEST
    coefficients = jnp.einsum("uy,...aybx,vx->...aubv", _DCT, blocks, _DCT, precision=exact)
    steps = jnp.expand_dims(steps[:, None, :], tuple(range(coefficients.ndim - 3)))
    eighths = jnp.round(8 * coefficients)  # as libjpeg's integers, so that ties are ties; they go away from zero
    kept = jnp.sign(eighths) * jnp.floor(jnp.abs(eighths) / (8 * steps) + 0.5) * steps
    back = jnp.einsum("uy,...aubv,vx->...aybx", _DCT, kept, _DCT, precision=exact)
    return jnp.clip(jnp.round(back + 128), 0, 255).reshape(plane.shape)


def _halve(plane: Float[Array, "*n h w"]) -> Float[Array, "*n y x"]:
    """Means of 2×2, with halves rounded down and up alternately."""
    total = plane[..., ::2, :] + plane[..., 1::2, :]
    total = total[..., ::2] + total[..., 1::2]
    bias = 1 + jnp.arange(total.shape[-1], dtype=total.dtype) % 2
    return jnp.floor((total + jnp.expand_dims(bias, tuple(range(total.ndim - 1)))) / 4)


def _double(plane: Float[Array, "*n h w"]) -> Float[Array, "*n y x"]:
    """Twice the size: three parts of the nearest value and one of the next, along both axes ("fancy upsampling")."""
    height, width = plane.shape[-2:]
    padded = jnp.pad(plane, [(0, 0)] * (plane.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    inner = 3 * padded[..., 1:-1, :]
    rows = jnp.stack([inner + padded[..., :-2, :], inner + padded[..., 2:, :]], -2)
    rows = rows.reshape(*plane.shape[:-2], 2 * height, width + 2)
    inner = 3 * rows[..., 1:-1]
    both = jnp.stack([inner + rows[..., :-2] + 8, inner + rows[..., 2:] + 7], -1)
    return jnp.floor(both / 16).reshape(*plane.shape[:-2], 2 * height, 2 * width)
