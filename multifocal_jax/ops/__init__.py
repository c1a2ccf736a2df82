"""Pure functions without parameters: the wavelet, the shuffle, the pooling and the attention of the paper.

All arrays are channels-last, (batch, height, width, channels).
"""

from multifocal_jax.ops.attention import (
    add_spatial_attention,
    channel_attention_map,
    spatial_attention,
    spatial_attention_maps,
)
from multifocal_jax.ops.convolution import convolve
from multifocal_jax.ops.extent import Extent, zero_beyond
from multifocal_jax.ops.pooling import adaptive_average_pool, pool_phases, pool_recalibrated, spatial_pyramid_pool
from multifocal_jax.ops.resize import average_downsample, gaussian_downsample, pixel_shuffle, upsample_bilinear
from multifocal_jax.ops.scales import add_shuffled, merge_scales, plain_add_shuffled, plain_merge_scales
from multifocal_jax.ops.wavelet import haar_dwt, recalibrate

__all__ = [
    "Extent",
    "adaptive_average_pool",
    "add_shuffled",
    "add_spatial_attention",
    "average_downsample",
    "channel_attention_map",
    "convolve",
    "gaussian_downsample",
    "haar_dwt",
    "merge_scales",
    "pixel_shuffle",
    "plain_add_shuffled",
    "plain_merge_scales",
    "pool_phases",
    "pool_recalibrated",
    "recalibrate",
    "spatial_attention",
    "spatial_attention_maps",
    "spatial_pyramid_pool",
    "upsample_bilinear",
    "zero_beyond",
]
