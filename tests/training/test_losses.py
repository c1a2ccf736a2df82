import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from skimage.color import rgb2ycbcr
from skimage.metrics import mean_squared_error, normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from multifocal_jax.config import ConfigError, TrainConfig
from multifocal_jax.training.losses import (
    charbonnier,
    frequency_l1,
    make_loss,
    mean_absolute_error,
    negative_psnr,
    negative_psnr_and_ssim,
    root_mean_square_error,
)


@pytest.fixture
def images(rng):
    return [jnp.asarray(rng.random((2, 8, 10, 3)), jnp.float32) for _ in range(2)]


def test_mean_absolute_error_by_hand():
    derained, clean = jnp.asarray([0.0, 1.0, 0.5, 0.5]), jnp.asarray([1.0, 1.0, 0.0, 0.25])
    error = mean_absolute_error(derained.reshape(1, 2, 2, 1), clean.reshape(1, 2, 2, 1))
    assert float(error) == (1 + 0 + 0.5 + 0.25) / 4


def test_charbonnier_by_definition(images):
    first, second = (np.asarray(x, np.float64) for x in images)
    assert float(charbonnier(*images)) == pytest.approx(np.sqrt((first - second) ** 2 + 1e-3**2).mean(), rel=1e-5)


def test_negative_psnr_against_scikit_image(images):
    first, second = (np.asarray(x, np.float64) for x in images)
    expected = -np.mean([peak_signal_noise_ratio(b, a, data_range=1) for a, b in zip(first, second, strict=True)])
    assert float(negative_psnr(*images)) == pytest.approx(expected, rel=1e-5)
    assert make_loss(TrainConfig(loss="psnr")) is negative_psnr


def test_negative_psnr_of_equal_pictures_has_a_limit_and_a_gradient(images):
    value, gradient = jax.value_and_grad(negative_psnr)(images[0], images[0])
    assert float(value) == pytest.approx(-80)  # ε = 10⁻⁸
    assert not gradient.any()


@pytest.mark.parametrize(("level", "contrast", "noise"), [(0, 1, 0.1), (0.98, 0.02, 2e-4)])
def test_negative_psnr_and_ssim_against_scikit_image(rng, level, contrast, noise):
    clean = level + contrast * rng.random((2, 24, 17, 3))
    derained = clean + rng.normal(0, noise, clean.shape)
    mse = [mean_squared_error(b, a) for a, b in zip(derained, clean, strict=True)]
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "full": True}
    lumas = [[rgb2ycbcr(picture)[..., 0] for picture in pictures] for pictures in (derained, clean)]
    maps = [structural_similarity(first, second, **gaussian)[1] for first, second in zip(*lumas, strict=True)]
    # scikit-image cuts its Gaussian off at 3.5 σ, which gives the same 11 taps, but pads: the interior is compared.
    ssim = [values[5:-5, 5:-5].mean() for values in maps]
    expected = 10 * np.mean(np.log10(np.asarray(mse) + 1e-8) + np.log10(1 - np.asarray(ssim) + 1e-4))
    pair = [jnp.asarray(x, jnp.float32) for x in (derained, clean)]
    assert float(negative_psnr_and_ssim(*pair)) == pytest.approx(expected, rel=1e-5)
    assert make_loss(TrainConfig(loss="psnr_ssim")) is negative_psnr_and_ssim


def test_negative_psnr_and_ssim_of_equal_pictures_has_a_limit_and_a_gradient(rng):
    picture = jnp.asarray(rng.random((1, 16, 16, 3)), jnp.float32)
    value, gradient = jax.value_and_grad(negative_psnr_and_ssim)(picture, picture)
    assert float(value) == pytest.approx(-80 - 40, abs=0.01)  # ε = 10⁻⁸ and 10⁻⁴
    assert np.isfinite(gradient).all()


def test_negative_psnr_and_ssim_of_flat_pictures_by_hand():
    clean = jnp.full((1, 64, 64, 3), 217 / 255, jnp.float32)
    # MSE 10⁻⁸, and 1 − SSIM, about 5·10⁻⁹, vanishes beside ε = 10⁻⁴.
    expected = 10 * np.log10(2e-8) + 10 * np.log10(1e-4)
    assert float(negative_psnr_and_ssim(clean - 1e-4, clean)) == pytest.approx(expected, abs=0.01)


def test_root_mean_square_error_against_scikit_image(images):
    first, second = (np.asarray(x, np.float64) for x in images)
    spans = [b.max() - b.min() for b in second]
    pairs = zip(first, second, spans, strict=True)
    expected = np.mean([span * normalized_root_mse(b, a, normalization="min-max") for a, b, span in pairs])
    assert float(root_mean_square_error(*images)) == pytest.approx(expected, rel=1e-5)
    assert make_loss(TrainConfig(loss="rmse")) is root_mean_square_error


def test_root_mean_square_error_of_equal_pictures_has_a_gradient(images):
    value, gradient = jax.value_and_grad(root_mean_square_error)(images[0], images[0])
    assert float(value) == pytest.approx(1e-4)  # ε
    assert not gradient.any()


def test_frequency_l1_against_scipy(images):
    first, second = (np.asarray(x, np.float64) for x in images)
    spectrum = scipy.fft.rfft2(first, axes=(1, 2), norm="ortho") - scipy.fft.rfft2(second, axes=(1, 2), norm="ortho")
    expected = (np.abs(spectrum.real) + np.abs(spectrum.imag)).mean()
    assert float(frequency_l1(*images)) == pytest.approx(expected, rel=1e-4)


def squared(derained, clean):
    return jnp.mean((derained - clean) ** 2)


def unreduced(derained, clean):
    return derained - clean


def lonely(derained):
    return derained.mean()


def test_a_loss_of_ones_own_by_its_import_path(images):
    loss = make_loss(TrainConfig(loss=f"{__name__}:squared", frequency_weight=0.1))
    first, second = (np.asarray(x, np.float64) for x in images)
    expected = ((first - second) ** 2).mean() + 0.1 * float(frequency_l1(*images))
    assert float(loss(*images)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:loss", "'nowhere:loss', which cannot be imported: No module named 'nowhere'"),
        (f"{__name__}:lost", f"cannot be imported: module '{__name__}' has no attribute 'lost'"),
        (f"{__name__}:pytest", "which is not a function of (derained, clean)"),
        (f"{__name__}:unreduced", "allowed: one number, such as a mean"),
        ("mistyped:loss", "mistyped.py, line 4)"),
        (f"{__name__}:lonely", "which fails for (1, 128, 128, 3): TypeError: lonely() takes 1 positional argument"),
    ],
)
def test_losses_that_cannot_be_used(name, message, tmp_path, monkeypatch):
    (tmp_path / "mistyped.py").write_text("import numpy\n\n\nwindow = numpi.ones(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as refused:
        make_loss(TrainConfig(loss=name))
    assert message in str(refused.value)


def test_weighted_sum(images):
    loss = make_loss(TrainConfig(frequency_weight=0.1))
    expected = mean_absolute_error(*images) + 0.1 * frequency_l1(*images)
    assert float(loss(*images)) == pytest.approx(float(expected), rel=1e-6)
