"""The spatial cross-scale similarity attention block (section 3.2, figure 4a)."""

import flax.linen as nn
from jaxtyping import Array, Float

from multifocal_jax.models.layers import Block
from multifocal_jax.ops import (
    add_spatial_attention,
    pool_phases,
    pool_recalibrated,
    recalibrate,
    spatial_attention,
    spatial_attention_maps,
    spatial_pyramid_pool,
)


class SpatialCSSAB(Block):
    """F_out = F_in + [M_k V_k] over the wavelet bands k, M_k = softmax(Q_k K_kᵀ) (eqs. 4 and 5).

    Q comes from the large scale; K and V come from the small one, re-calibrated and pooled to S anchors.
    """

    @nn.compact
    def __call__(self, large: Float[Array, "b h w c"], small: Float[Array, "b h2 w2 c"]) -> Float[Array, "b h w c"]:
        channels, size = self.config.channels, self.config.projection_kernel
        query, key, value = (self.conv(name, channels, size) for name in ("query", "key", "value"))
        if self.layer_by_layer or size != 1:
            return self._plain(large, recalibrate(query(large)), recalibrate(key(small)), recalibrate(value(small)))

        def weights(conv: nn.Module) -> tuple[Array, Array]:
            kernel, bias = conv.weights(channels)
            return kernel[0, 0], bias

        pooled = pool_phases(small, self.config.spp_sizes, self.extent(small))
        anchors = [pool_recalibrated(pooled, *weights(conv)) for conv in (key, value)]
        return add_spatial_attention(large, *weights(query), *anchors)

    def _plain(self, large: Array, query: Array, key: Array, value: Array) -> Array:
        key, value = (spatial_pyramid_pool(x, self.config.spp_sizes, self.extent(x)) for x in (key, value))
        out = large + spatial_attention(query, key, value)
        if self.layer_by_layer:
            maps = spatial_attention_maps(query, key)
            self.capture(recalibrated_query=query, pooled_key=key, pooled_value=value, maps=maps, out=out)
        return out
