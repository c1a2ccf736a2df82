"""The spatial cross-scale similarity attention block (section 3.2, figure 4a)."""

import flax.linen as nn
from jaxtyping import Array, Float

from multifocal_jax.models.layers import Block
from multifocal_jax.ops import recalibrate, spatial_attention, spatial_attention_maps, spatial_pyramid_pool


class SpatialCSSAB(Block):
    """F_out = F_in + [M_LL V_LL, M_LH V_LH, M_HL V_HL, M_HH V_HH], M = softmax[Q_k K_kᵀ] (eqs. 4 and 5).

    Q comes from the large scale; K and V come from the small one. All are re-calibrated by the FRCB, K and V pooled to
    S anchors by the SPP.
    """

    @nn.compact
    def __call__(self, large: Float[Array, "b h w c"], small: Float[Array, "b h2 w2 c"]) -> Float[Array, "b h w c"]:
        query = recalibrate(self.project("query")(large))
        key = spatial_pyramid_pool(recalibrate(self.project("key")(small)), self.config.spp_sizes)
        value = spatial_pyramid_pool(recalibrate(self.project("value")(small)), self.config.spp_sizes)
        maps = spatial_attention_maps(query, key)
        out = large + spatial_attention(maps, value)
        self.capture(recalibrated_query=query, pooled_key=key, pooled_value=value, maps=maps, out=out)
        return out
