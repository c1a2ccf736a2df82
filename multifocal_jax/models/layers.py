"""Convolutions initialised as in PyTorch, and the base class of all blocks."""

import math
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from multifocal_jax.config import ModelConfig
from multifocal_jax.ops import convolve

SomeBlock = TypeVar("SomeBlock", bound="Block")


class Conv(nn.Module):
    """2-D convolution with bias, zero-padded by kernel_size // 2 on every side, as PyTorch's `Conv2d`.

    Weight and bias are initialised uniformly in ±1/√fan_in, PyTorch's default, which the paper used.

    Attributes:
        features: output channels.
        kernel_size: height and width of the kernel.
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
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        bound = 1 / math.sqrt(math.prod(shape[:3]))

        def uniform(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        kernel = self.param("kernel", uniform, shape, self.param_dtype)
        bias = self.param("bias", uniform, (self.features,), self.param_dtype)
        x, kernel, bias = (jnp.asarray(value, self.dtype) for value in (x, kernel, bias))
        return convolve(x, kernel, bias, self.stride)


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
        return Conv(features, kernel_size, stride, self.dtype, self.param_dtype, name=name)

    def project(self, name: str) -> Conv:
        """The convolution that makes Q, K or V."""
        return self.conv(name, self.config.channels, self.config.projection_kernel)

    def block(self, name: str, block_type: type[SomeBlock], **fields: Any) -> SomeBlock:
        """A nested block with the same architecture and precision."""
        return block_type(self.config, self.dtype, self.param_dtype, name=name, **fields)

    def capture(self, **tensors: Any) -> None:
        """Return these by name when the caller asks for intermediates; free otherwise."""
        for name, tensor in tensors.items():
            self.sow("intermediates", name, tensor)
