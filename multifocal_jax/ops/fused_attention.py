"""Attention to a few anchors in every wavelet band in one kernel, for NVIDIA GPUs; the same as `band_attention`.

A band has hundreds of thousands of queries and 110 keys of 16 numbers (eqs. 4 and 5). A kernel reads a query once and
writes its result once; keys and values stay on the chip, and the 110 numbers per query between the two products never
leave it. Nothing is kept for the gradient, which computes the softmax again. The kernels are Pallas for Triton.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

Queries = Float[Array, "b n d"]
Anchors = Float[Array, "b s d"]

TILE = 64  # queries that are taken through a kernel at once
WARPS = 4
TILES = 16  # tiles of a program, at most
FEWEST_PROGRAMS = 1024  # several for every multiprocessor


def attend(
    queries: list[Queries],
    keys: list[Anchors],
    values: list[Anchors],
    *,
    fewest_programs: int = FEWEST_PROGRAMS,
    interpret: bool = False,
) -> Float[Array, "b n c"]:
    """`band_attention.attend` for what `gpu_kernels` says suits the kernels.

    Args:
        queries: (B, N, D) of every band.
        keys: (B, S, D), likewise.
        values: (B, S, D), likewise.
        fewest_programs: into which the queries are shared out where there are tiles for so many.
        interpret: run anywhere, slowly, for tests.

    Returns:
        (B, N, C).
    """
    query, key, value = (jnp.concatenate(bands, axis=-1) for bands in (queries, keys, values))
    launch = _Launch(query, key, len(queries), fewest_programs)
    return launch(
        _forward,
        in_specs=[launch.whole(query), launch.whole(key), launch.whole(value)],
        out_specs=launch.whole(query),
        out_shape=jax.ShapeDtypeStruct(query.shape, query.dtype),
        interpret=interpret,
        name="attend",
    )(query, key, value)


def attend_gradients(
    queries: list[Queries],
    keys: list[Anchors],
    values: list[Anchors],
    gradient: Float[Array, "b n c"],
    *,
    fewest_programs: int = FEWEST_PROGRAMS,
    interpret: bool = False,
) -> tuple[list[Queries], Float[Array, "b s c"], Float[Array, "b s c"]]:
    """`band_attention.attend_gradients`, likewise."""
    query, key, value = (jnp.concatenate(bands, axis=-1) for bands in (queries, keys, values))
    launch = _Launch(query, key, len(queries), fewest_programs)
    batch, anchors, channels = key.shape
    sums = jax.ShapeDtypeStruct((batch, launch.programs, anchors, channels), jnp.float32)
    d_query, d_key, d_value = launch(
        _backward,
        in_specs=[launch.whole(query), launch.whole(key), launch.whole(value), launch.whole(gradient)],
        out_specs=[launch.whole(query), launch.of_program(sums), launch.of_program(sums)],
        out_shape=[jax.ShapeDtypeStruct(query.shape, query.dtype), sums, sums],
        interpret=interpret,
        name="attend_gradients",
    )(query, key, value, gradient)
    d_queries = jnp.split(d_query, len(queries), axis=-1)
    return d_queries, d_key.sum(1).astype(key.dtype), d_value.sum(1).astype(value.dtype)


class _Launch:
    """How queries are shared out: a group of programs for every picture and band, some tiles for every program."""

    def __init__(self, query: Array, key: Array, bands: int, fewest_programs: int) -> None:
        (batch, self.count, channels), self.anchors = query.shape, key.shape[1]
        self.bands, self.depth, groups = bands, channels // bands, batch * bands
        tiles = pl.cdiv(self.count, TILE)
        self.tiles = max(1, min(TILES, tiles, groups * tiles // fewest_programs))
        self.programs = pl.cdiv(tiles, self.tiles)
        self.grid = (groups, self.programs)

    def __call__(self, kernel: Any, **options: Any) -> Any:
        return pl.pallas_call(
            partial(kernel, launch=self),
            grid=self.grid,
            compiler_params=triton.CompilerParams(num_warps=WARPS),
            **options,
        )

    def whole(self, x: Array) -> pl.BlockSpec:
        """All that an array has of the program's picture."""
        return pl.BlockSpec((None, *x.shape[1:]), lambda group, program: (group // self.bands, 0, 0))

    def of_program(self, x: jax.ShapeDtypeStruct) -> pl.BlockSpec:
        """What an array has of the program and its picture."""
        return pl.BlockSpec((None, None, *x.shape[2:]), lambda group, program: (group // self.bands, program, 0, 0))

    def band(self) -> Any:
        """The channels of the program's band; to be asked outside loops."""
        return pl.ds(pl.program_id(0) % self.bands * self.depth, self.depth)

    def first_tile(self) -> Any:
        """Of the program; likewise."""
        return pl.program_id(1) * self.tiles

    def rows(self, tile: Any) -> tuple[Any, Array]:
        """The queries of a tile, and which of them there are."""
        return pl.ds(tile * TILE, TILE), (tile * TILE + jnp.arange(TILE) < self.count)[:, None]

    def anchor_rows(self) -> tuple[Any, Array]:
        """All anchors and as many more as make a power of two, and which of them there are."""
        padded = max(16, pl.next_power_of_2(self.anchors))
        return pl.ds(0, padded), (jnp.arange(padded) < self.anchors)[:, None]


def _load(ref: Any, rows: tuple[Any, Array], band: Any) -> Array:
    return triton.load(ref.at[rows[0], band], mask=rows[1], other=0)


def _store(ref: Any, rows: tuple[Any, Array], band: Any, x: Array) -> None:
    triton.store(ref.at[rows[0], band], x.astype(ref.dtype), mask=rows[1])


def _dot(a: Array, b: Array) -> Array:
    return jnp.dot(a, b, precision=jax.lax.Precision.DEFAULT, preferred_element_type=jnp.float32)


def _powers(query: Array, key: Array, anchors: int) -> Array:
    """The softmax but for its sum; 0 for what are no anchors."""
    logits = _dot(query, key.T)
    there = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1) < anchors
    logits = jnp.where(there, logits, -jnp.inf)
    return jnp.exp(logits - logits.max(-1, keepdims=True))


def _forward(query_ref: Any, key_ref: Any, value_ref: Any, out_ref: Any, *, launch: _Launch) -> None:
    band, first = launch.band(), launch.first_tile()
    key, value = (_load(ref, launch.anchor_rows(), band) for ref in (key_ref, value_ref))

    def step(index: Any, _: None) -> None:
        rows = launch.rows(first + index)
        powers = _powers(_load(query_ref, rows, band), key, launch.anchors)
        out = _dot(powers.astype(value.dtype), value) / powers.sum(-1, keepdims=True)
        _store(out_ref, rows, band, out)

    jax.lax.fori_loop(0, launch.tiles, step, None)


def _backward(
    query_ref: Any,
    key_ref: Any,
    value_ref: Any,
    gradient_ref: Any,
    d_query_ref: Any,
    d_key_ref: Any,
    d_value_ref: Any,
    *,
    launch: _Launch,
) -> None:
    band, first = launch.band(), launch.first_tile()
    key, value = (_load(ref, launch.anchor_rows(), band) for ref in (key_ref, value_ref))

    def step(index: Any, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        rows = launch.rows(first + index)
        query, gradient = _load(query_ref, rows, band), _load(gradient_ref, rows, band)
        powers = _powers(query, key, launch.anchors)
        maps = powers / powers.sum(-1, keepdims=True)
        d_maps = _dot(gradient, value.T)
        shared = (maps * d_maps).sum(-1, keepdims=True)
        d_logits = (maps * (d_maps - shared)).astype(key.dtype)
        _store(d_query_ref, rows, band, _dot(d_logits, key))
        return sums[0] + _dot(d_logits.T, query), sums[1] + _dot(maps.astype(gradient.dtype).T, gradient)

    zeros = jnp.zeros(key.shape, jnp.float32)
    d_key, d_value = jax.lax.fori_loop(0, launch.tiles, step, (zeros, zeros))
    _store(d_key_ref, launch.anchor_rows(), band, d_key)
    _store(d_value_ref, launch.anchor_rows(), band, d_value)
