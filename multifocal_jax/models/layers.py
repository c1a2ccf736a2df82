"""Convolutions that start as PyTorch's do, with PyTorch's padding, and what all blocks have in common."""

import math
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from multifocal_jax.config import ModelConfig

SomeBlock = TypeVar("SomeBlock", bound="Block")


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
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        inputs, size = x.shape[-1], self.kernel_size
        bound = 1 / math.sqrt(size * size * inputs)

        def uniform(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        kernel = self.param("kernel", uniform, (size, size, inputs, self.features), self.param_dtype)
        bias = self.param("bias", uniform, (self.features,), self.param_dtype)
        x, kernel, bias = (jnp.asarray(value, self.dtype) for value in (x, kernel, bias))
        if size == 1 and self.stride == 1:
            return jnp.einsum("bhwc,cf->bhwf", x, kernel[0, 0]) + bias
        pad = size // 2
        out = jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(self.stride, self.stride),
            padding=((pad, pad), (pad, pad)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return out + bias


class Block(nn.Module):
    """Base of the network's blocks.

    Attributes:
        config: the architecture.
        dtype: of the computation; attention logits and softmax stay in float32 or wider.
        param_dtype: of the parameters.
    """

    config: ModelConfig = ModelConfig()
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def conv(self, name: str, features: int, kernel_size: int = 3, stride: int = 1) -> Conv:
        """A convolution in this block's precision."""
        return Conv(features, kernel_size, stride, dtype=self.dtype, param_dtype=self.param_dtype, name=name)

    def block(self, name: str, block_type: type[SomeBlock], **fields: Any) -> SomeBlock:
        """A block inside this one, of the same architecture and precision."""
        return block_type(config=self.config, dtype=self.dtype, param_dtype=self.param_dtype, name=name, **fields)

    def capture(self, **tensors: Any) -> None:
        """Return these by name when the caller asks for intermediates; free otherwise."""
        for name, tensor in tensors.items():
            self.sow("intermediates", name, tensor)

    @property
    def capturing(self) -> bool:
        """Whether the caller asks for intermediates."""
        return self.is_mutable_collection("intermediates")
