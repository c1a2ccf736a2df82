"""Random numbers of one key, used one after the other: one generator call is compiled instead of a dozen."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt32


class Draws:
    """At most `count` numbers; who asks for what, and in which order, decides what each gets."""

    def __init__(self, key: PRNGKeyArray, count: int):
        self._words = jax.random.bits(key, (count,), jnp.uint32)
        self._used = 0

    def words(self, *shape: int) -> UInt32[Array, "*shape"]:
        """32 random bits each."""
        first = self._used
        self._used += math.prod(shape)
        assert self._used <= len(self._words)
        return self._words[first : self._used].reshape(shape)

    def fractions(self, *shape: int) -> Float[Array, "*shape"]:
        """Numbers in [0, 1), float32."""
        return (self.words(*shape) >> 8).astype(jnp.float32) * 2.0**-24

    def uniform(self, low: float, high: float) -> Float[Array, ""]:
        """A number in [low, high)."""
        return low + (high - low) * self.fractions()

    def log_uniform(self, low: float, high: float) -> Float[Array, ""]:
        """A number in [low, high) whose logarithm is uniform."""
        return low * (high / low) ** self.fractions()
