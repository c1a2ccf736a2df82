import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from multifocal_jax.ops import average_downsample, gaussian_downsample, upsample_bilinear


def test_gaussian_downsample_equals_scipy_filter_at_every_second_pixel(rng):
    x = rng.standard_normal((2, 10, 14, 3)).astype(np.float32)
    # 5 taps: the radius of 2 is cut off at 2 σ
    blurred = scipy.ndimage.gaussian_filter(x, sigma=(0, 1, 1, 0), radius=(0, 2, 2, 0), mode="constant")
    np.testing.assert_allclose(gaussian_downsample(jnp.asarray(x)), blurred[:, ::2, ::2], atol=1e-6)


def test_average_downsample_by_hand():
    x = jnp.asarray([[1.0, 2.0], [3.0, 6.0]]).reshape(1, 2, 2, 1)
    assert float(average_downsample(x).squeeze()) == 3.0


def test_upsample_bilinear_by_hand():
    # align_corners=False puts output samples at −¼, ¼, ¾, 1¼ of the input; the outer ones repeat the border
    x = jnp.asarray([0.0, 4.0]).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(upsample_bilinear(x, 2)[0, 0, :, 0], [0.0, 1.0, 3.0, 4.0])
