"""The spatial cross-scale similarity attention block (section 3.2, figure 4a)."""

import flax.linen as nn
from jaxtyping import Array, Float

from multifocal_jax.models.layers import Block
from multifocal_jax.ops import recalibrate, spatial_attention, spatial_attention_maps, spatial_pyramid_pool


class SpatialCSSAB(Block):
    """F_out = F_in + [M_k V_k] over the wavelet bands k, M_k = softmax(Q_k K_kᵀ) (eqs. 4 and 5).

    Q comes from the large scale; K and V come from the small one, re-calibrated and pooled to S anchors.
    """

    @nn.compact
    def __call__(self, large: Float[Array, "b h w c"], small: Float[Array, "b h2 w2 c"]) -> Float[Array, "b h w c"]:
        def project(name: str, x: Array) -> Array:
            return recalibrate(self.conv(name, self.config.channels, self.config.projection_kernel)(x))

        query = project("query", large)
        key = spatial_pyramid_pool(project("key", small), self.config.spp_sizes)
        value = spatial_pyramid_pool(project("value", small), self.config.spp_sizes)
        out = large + spatial_attention(query, key, value)
        if self.capturing:
            maps = spatial_attention_maps(query, key)
            self.capture(recalibrated_query=query, pooled_key=key, pooled_value=value, maps=maps, out=out)
        return out
