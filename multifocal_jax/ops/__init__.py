"""Pure functions without parameters that follow the paper: pyramid, wavelet, shuffle, pooling and attention.

All arrays are channels-last, (batch, height, width, channels).
"""

from multifocal_jax.ops.attention import (
    channel_attention,
    channel_attention_maps,
    similarity,
    spatial_attention,
    spatial_attention_maps,
)
from multifocal_jax.ops.convolution import convolve
from multifocal_jax.ops.pooling import adaptive_average_pool, pooling_matrix, spatial_pyramid_pool
from multifocal_jax.ops.pyramid import average_downsample, gaussian_downsample
from multifocal_jax.ops.residual import background, check_images
from multifocal_jax.ops.resize import pixel_shuffle, upsample_bilinear
from multifocal_jax.ops.wavelet import haar_bands, haar_dwt, recalibrate

__all__ = [
    "adaptive_average_pool",
    "average_downsample",
    "background",
    "channel_attention",
    "channel_attention_maps",
    "check_images",
    "convolve",
    "gaussian_downsample",
    "haar_bands",
    "haar_dwt",
    "pixel_shuffle",
    "pooling_matrix",
    "recalibrate",
    "similarity",
    "spatial_attention",
    "spatial_attention_maps",
    "spatial_pyramid_pool",
    "upsample_bilinear",
]
