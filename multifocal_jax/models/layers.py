"""Convolutions that start as PyTorch's do, with PyTorch's padding, and what all blocks have in common."""

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from multifocal_jax.config import ModelConfig
from multifocal_jax.ops import Extent, convolve, zero_beyond

SomeBlock = TypeVar("SomeBlock", bound="Block")


@dataclass(frozen=True)
class Padding:
    """How much of a padded batch is picture; every map of it is padded in the same proportion.

    Attributes:
        extent: of the picture in the batch.
        rows: of the batch.
    """

    extent: Extent
    rows: int

    def extent_in(self, x: Float[Array, "b h w c"]) -> Extent:
        """The picture's extent in a map of the batch, of any level."""
        return self.extent.shrunk(self.rows // x.shape[1])


class Conv(nn.Module):
    """2-D convolution with bias, zero padding of kernel // 2 on every side, as PyTorch's `Conv2d(padding=kernel//2)`.

    Flax's `SAME` would pad (0, 1) at stride 2 and even sizes. Weight and bias start uniform in ±1/√fan_in, so that
    training starts where the paper's did.

    Attributes:
        features: output channels.
        kernel_size: height and width of the kernel; 1 is computed as a matrix product.
        stride: 1 or 2.
        dtype: of the computation.
        param_dtype: of the parameters `kernel` (k, k, C_in, features) and `bias` (features,).
        padding: of the batch, if any; the convolution sees zeros there.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    padding: Padding | None = None

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        if self.padding and self.kernel_size == 3 and self.stride == 1:  # stride 2 ends at the picture's last pixel
            x = zero_beyond(x, self.padding.extent_in(x))
        return convolve(jnp.asarray(x, self.dtype), *self.weights(x.shape[-1]), self.stride)

    @nn.compact
    def weights(self, inputs: int) -> tuple[Float[Array, "k k c f"], Float[Array, " f"]]:
        """Kernel and bias in the dtype of the computation, for layers that are computed together with others.

        Args:
            inputs: number of input channels.
        """
        bound = 1 / math.sqrt(self.kernel_size**2 * inputs)

        def uniform(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        shape = (self.kernel_size, self.kernel_size, inputs, self.features)
        kernel = self.param("kernel", uniform, shape, self.param_dtype)
        bias = self.param("bias", uniform, (self.features,), self.param_dtype)
        return jnp.asarray(kernel, self.dtype), jnp.asarray(bias, self.dtype)


class Block(nn.Module):
    """Base of the network's blocks.

    Attributes:
        config: the architecture.
        dtype: of the computation; attention logits and softmax stay in float32 or wider.
        param_dtype: of the parameters.
        plain: compute layer by layer, as the paper writes it, instead of layers together where that is faster.
        padding: of the batch, if any.
    """

    config: ModelConfig = ModelConfig()
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    plain: bool = False
    padding: Padding | None = None

    def conv(self, name: str, features: int, kernel_size: int = 3, stride: int = 1) -> Conv:
        """A convolution in this block's precision."""
        return Conv(features, kernel_size, stride, self.dtype, self.param_dtype, self.padding, name=name)

    def block(self, name: str, block_type: type[SomeBlock], **fields: Any) -> SomeBlock:
        """A block inside this one, of the same architecture and precision."""
        return block_type(name=name, **self._shared_fields() | fields)

    def apart(self, block_type: type[SomeBlock], **fields: Any) -> SomeBlock:
        """A block as by `block` that is not part of this one: for `apply` with parameters of its own."""
        return block_type(parent=None, **self._shared_fields() | fields)

    def _shared_fields(self) -> dict[str, Any]:
        names = ("config", "dtype", "param_dtype", "plain", "padding")
        return {name: getattr(self, name) for name in names}

    def extent(self, x: Float[Array, "b h w c"]) -> Extent | None:
        """Of the picture in a map of a padded batch."""
        return self.padding.extent_in(x) if self.padding else None

    def capture(self, **tensors: Any) -> None:
        """Return these by name when the caller asks for intermediates; free otherwise."""
        for name, tensor in tensors.items():
            self.sow("intermediates", name, tensor)

    @property
    def layer_by_layer(self) -> bool:
        """Whether every layer is computed by itself: on demand, and where the caller asks for intermediates."""
        return self.plain or self.is_mutable_collection("intermediates")
