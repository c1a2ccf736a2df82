"""Pure functions without parameters: the wavelet, the shuffle, the pooling and the attention of the paper.

All arrays are channels-last, (batch, height, width, channels).
"""

from multifocal_jax.ops.attention import channel_attention_map, spatial_attention, spatial_attention_maps
from multifocal_jax.ops.pooling import adaptive_average_pool, spatial_pyramid_pool
from multifocal_jax.ops.resize import average_downsample, gaussian_downsample, pixel_shuffle, upsample_bilinear
from multifocal_jax.ops.wavelet import haar_dwt, recalibrate

__all__ = [
    "adaptive_average_pool",
    "average_downsample",
    "channel_attention_map",
    "gaussian_downsample",
    "haar_dwt",
    "pixel_shuffle",
    "recalibrate",
    "spatial_attention",
    "spatial_attention_maps",
    "spatial_pyramid_pool",
    "upsample_bilinear",
]
