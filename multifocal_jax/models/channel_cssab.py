"""The channel cross-scale similarity attention block (section 3.3, figure 4b)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from multifocal_jax.models.layers import Block
from multifocal_jax.ops import channel_attention_map, spatial_pyramid_pool


class ChannelCSSAB(Block):
    """F_out = F_in + V A, A = softmax(Kᵀ Q) per head (eq. 6).

    Q comes from the large scale and K from the small one, both pooled to S anchors; V is the large scale, unpooled.
    """

    @nn.compact
    def __call__(self, large: Float[Array, "b h w c"], small: Float[Array, "b h2 w2 c"]) -> Float[Array, "b h w c"]:
        def project(name: str, x: Array) -> Array:
            return self.conv(name, self.config.channels, self.config.projection_kernel)(x)

        query = spatial_pyramid_pool(project("query", large), self.config.spp_sizes)
        key = spatial_pyramid_pool(project("key", small), self.config.spp_sizes)
        value = project("value", large) if self.config.value_projection else large
        maps = channel_attention_map(query, key, self.config.heads, self.config.channel_softmax)
        mixing = jax.vmap(lambda heads: jax.scipy.linalg.block_diag(*heads))(maps).astype(value.dtype)
        out = large + jnp.einsum("bhwi,bij->bhwj", value, mixing)
        self.capture(pooled_query=query, pooled_key=key, full_value=value, maps=maps, out=out)
        return out
