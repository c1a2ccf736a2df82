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
        config = self.config
        query, key = (self.conv(name, config.channels, config.projection_kernel) for name in ("query", "key"))
        together = not self.layer_by_layer and config.projection_kernel == 1

        def pool(x: Array) -> Array:
            return spatial_pyramid_pool(x, config.spp_sizes, self.extent(x))

        if together:  # a mean of projections is the projection of the mean
            pooled_query, pooled_key = (conv(pool(x)[:, None])[:, 0] for conv, x in ((query, large), (key, small)))
        else:
            pooled_query, pooled_key = pool(query(large)), pool(key(small))
        maps = channel_attention_map(pooled_query, pooled_key, config.heads, config.channel_softmax)
        mixing = jax.vmap(lambda heads: jax.scipy.linalg.block_diag(*heads))(maps).astype(large.dtype)
        value = large
        if config.value_projection:
            project = self.conv("value", config.channels, config.projection_kernel)
            if together:  # (F W + b) A = F (W A) + b A
                kernel, bias = project.weights(config.channels)
                mixed = jnp.einsum("bhwi,bij->bhwj", large, kernel[0, 0] @ mixing)
                return large + (mixed + (bias @ mixing)[:, None, None])
            value = project(large)
        out = large + jnp.einsum("bhwi,bij->bhwj", value, mixing)
        self.capture(pooled_query=pooled_query, pooled_key=pooled_key, full_value=value, maps=maps, out=out)
        return out
