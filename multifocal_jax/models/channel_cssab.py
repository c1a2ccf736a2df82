"""The channel cross-scale similarity attention block (section 3.3, figure 4b)."""

import flax.linen as nn
from jaxtyping import Array, Float

from multifocal_jax.models.layers import Block
from multifocal_jax.ops import channel_attention, channel_attention_maps, spatial_pyramid_pool


class ChannelCSSAB(Block):
    """F_out = F_in + V A, A = softmax(Kᵀ Q) per head (eq. 6).

    Q comes from the large scale and K from the small one, both pooled to S anchors by the SPP; V is the large scale,
    unpooled.
    """

    @nn.compact
    def __call__(self, large: Float[Array, "b h w c"], small: Float[Array, "b h2 w2 c"]) -> Float[Array, "b h w c"]:
        config = self.config
        query = spatial_pyramid_pool(self.project("query")(large), config.spp_sizes)
        key = spatial_pyramid_pool(self.project("key")(small), config.spp_sizes)
        value = self.project("value")(large) if config.value_projection else large
        maps = channel_attention_maps(query, key, config.heads, config.channel_softmax)
        out = large + channel_attention(value, maps)
        self.capture(pooled_query=query, pooled_key=key, full_value=value, maps=maps, out=out)
        return out
