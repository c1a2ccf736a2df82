import jax.numpy as jnp
import numpy as np
import pytest
import pywt

from multifocal_jax.ops import haar_dwt, recalibrate


def test_haar_bands_equal_pywavelets_with_the_sign_convention(rng):
    x = rng.standard_normal((2, 8, 12, 3)).astype(np.float32)
    approximation, (horizontal, vertical, diagonal) = pywt.dwt2(x, "haar", axes=(1, 2))
    ll, lh, hl, hh = haar_dwt(jnp.asarray(x))
    for ours, theirs in ((ll, approximation), (lh, -horizontal), (hl, -vertical), (hh, diagonal)):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_haar_of_one_block_by_hand():
    # x1 = 1 (top left), x2 = 2 (below), x3 = 3 (right), x4 = 4 (across), each halved
    block = jnp.asarray([[1.0, 3.0], [2.0, 4.0]]).reshape(1, 2, 2, 1)
    assert [float(band.squeeze()) for band in haar_dwt(block)] == [5.0, 1.0, 2.0, 0.0]


def test_haar_is_orthonormal(rng):
    x = jnp.asarray(rng.standard_normal((1, 16, 16, 4)), jnp.float32)
    energy = sum(float(jnp.sum(band**2)) for band in haar_dwt(x))
    assert energy == pytest.approx(float(jnp.sum(x**2)), rel=1e-5)


def test_recalibrated_channels_hold_the_bands_in_the_order_of_equation_4(rng):
    x = rng.standard_normal((1, 8, 8, 8)).astype(np.float32)
    approximation, (horizontal, vertical, diagonal) = pywt.dwt2(x, "haar", axes=(1, 2))
    out = np.asarray(recalibrate(jnp.asarray(x)))
    assert out.shape == x.shape
    for band, theirs in enumerate((approximation, -horizontal, -vertical, diagonal)):
        # channel c of a band at (2h + i, 2w + j) is channel 4c + 2i + j of the transform at (h, w)
        for c, i, j in np.ndindex(2, 2, 2):
            np.testing.assert_allclose(out[0, i::2, j::2, 2 * band + c], theirs[0, ..., 4 * c + 2 * i + j], atol=1e-6)
