"""Training losses on the de-rained picture."""

import pkgutil
import traceback
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from multifocal_jax.config import ConfigError, TrainConfig
from multifocal_jax.evaluation.metrics import LUMA, WINDOW, dissimilarity

Images = Float[Array, "b h w c"]
Loss = Callable[[Images, Images], Float[Array, ""]]


def mean_absolute_error(derained: Images, clean: Images) -> Float[Array, ""]:
    """‖B̂ − B‖₁ as a mean over all values (eq. 7)."""
    return jnp.mean(jnp.abs(derained - clean))


def charbonnier(derained: Images, clean: Images) -> Float[Array, ""]:
    """Mean of √((B̂ − B)² + ε²) with ε = 10⁻³, a smooth L1 (Lai et al., CVPR 2017, section 3.3)."""
    return jnp.mean(jnp.sqrt(jnp.square(derained - clean) + 1e-6))


def negative_psnr(derained: Images, clean: Images) -> Float[Array, ""]:
    """−PSNR in dB, mean over the pictures: 10 log₁₀(MSE + ε), ε = 10⁻⁸ (Chen et al., HINet, CVPR Workshops 2021).

    It is for the last stage of a training: its gradient grows as the error falls.
    """
    error = jnp.mean(jnp.square(derained - clean), axis=(1, 2, 3))
    return jnp.mean(10 * jnp.log10(error + 1e-8))


def root_mean_square_error(derained: Images, clean: Images) -> Float[Array, ""]:
    """Mean over the pictures of √(MSE + ε²), ε = 10⁻⁴.

    Like `negative_psnr` for the last stage of a training, and for sets that contain pictures without rain: a picture's
    gradient does not grow as its error falls.
    """
    error = jnp.mean(jnp.square(derained - clean), axis=(1, 2, 3))
    return jnp.mean(jnp.sqrt(error + 1e-8))


def negative_psnr_and_ssim(derained: Images, clean: Images) -> Float[Array, ""]:
    """`negative_psnr` + 10 log₁₀(1 − SSIM + ε), ε = 10⁻⁴, mean over the pictures: both errors in dB.

    SSIM is the metric's, of the luma over the valid region of its window, so sides must be at least 11.
    """
    error = jnp.mean(dissimilarity(_luma(derained), _luma(clean), _blur, 1.0), axis=(1, 2))
    return negative_psnr(derained, clean) + jnp.mean(10 * jnp.log10(error + 1e-4))


def _luma(images: Images) -> Float[Array, "b h w"]:
    return 16 / 255 + images @ jnp.asarray(LUMA, images.dtype)


def _blur(planes: Float[Array, "b h w"]) -> Float[Array, "b h-10 w-10"]:
    """The window over the valid region: products with banded matrices, which every device does fast."""
    down, across = (jnp.asarray(_band(side), planes.dtype) for side in planes.shape[1:])
    return jnp.einsum("ih,bhw,jw->bij", down, planes, across, precision="highest")


def _band(side: int) -> np.ndarray:
    """(side − 10, side): row i holds the window's taps in columns i to i + 10."""
    spare = side - len(WINDOW)
    return np.stack([np.pad(WINDOW, (row, spare - row)) for row in range(spare + 1)])


def frequency_l1(derained: Images, clean: Images) -> Float[Array, ""]:
    """Mean absolute difference of the 2-D Fourier transforms, real and imaginary parts (Cho et al., ICCV 2021, eq. 5).

    The transform is orthonormal, so the value does not grow with the crop.
    """
    spectrum = jnp.fft.rfft2(derained - clean, axes=(1, 2), norm="ortho")
    return jnp.mean(jnp.abs(spectrum.real) + jnp.abs(spectrum.imag))


_SPATIAL = {
    "mae": mean_absolute_error,
    "charbonnier": charbonnier,
    "psnr": negative_psnr,
    "psnr_ssim": negative_psnr_and_ssim,
    "rmse": root_mean_square_error,
}


def make_loss(train: TrainConfig) -> Loss:
    """The loss of a config: `train.loss` plus `train.frequency_weight` times `frequency_l1`.

    Raises:
        ConfigError: `train.loss` is no function that can be imported, or one that fails or returns no single number.
    """
    spatial = _SPATIAL.get(train.loss) or _imported(train.loss)
    if not train.frequency_weight:
        return spatial
    return lambda derained, clean: spatial(derained, clean) + train.frequency_weight * frequency_l1(derained, clean)


def _imported(name: str) -> Loss:
    try:
        loss = pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"TrainConfig.loss is {name!r}, which cannot be imported: {error}") from None
    except Exception as error:  # of the user's code
        raise ConfigError(f"TrainConfig.loss is {name!r}, which cannot be imported: {_spell(error)}") from None
    if not callable(loss):
        raise ConfigError(f"TrainConfig.loss is {name!r}, which is not a function of (derained, clean)")
    images = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)
    try:
        value = jax.eval_shape(loss, images, images)
    except Exception as error:  # of the user's code
        raise ConfigError(f"TrainConfig.loss is {name!r}, which fails for (1, 128, 128, 3): {_spell(error)}") from None
    if getattr(value, "shape", None) != ():
        raise ConfigError(f"TrainConfig.loss is {name!r}, which returns {value}; allowed: one number, such as a mean")
    return cast(Loss, loss)


def _spell(error: Exception) -> str:
    """Type and first line of an error, and the innermost line of Python at which it arose."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {what} ({frame.filename}, line {frame.lineno})"
