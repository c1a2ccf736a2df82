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
    query, key, value = (jnp.concatenate(bands) for bands in (queries, keys, values))
    (groups, count, depth), anchors = query.shape, key.shape[1]
    programs, tiles = _share(groups, count, fewest_programs)
    of_query, of_anchors = _blocks(count, depth, anchors)
    out = pl.pallas_call(
        partial(_forward, count=count, anchors=anchors, tiles=tiles),
        grid=(groups, programs),
        in_specs=[of_query, of_anchors, of_anchors],
        out_specs=of_query,
        out_shape=jax.ShapeDtypeStruct(query.shape, query.dtype),
        compiler_params=triton.CompilerParams(num_warps=WARPS),
        interpret=interpret,
        name="attend",
    )(query, _pad(key), _pad(value))
    return _beside_each_other(out, len(queries))


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
    bands = len(queries)
    query, key, value = (jnp.concatenate(parts) for parts in (queries, keys, values))
    (groups, count, depth), anchors = query.shape, key.shape[1]
    programs, tiles = _share(groups, count, fewest_programs)
    of_query, of_anchors = _blocks(count, depth, anchors)
    padded = _padded(anchors)
    sums = jax.ShapeDtypeStruct((groups, programs, padded, depth), jnp.float32)
    of_sums = pl.BlockSpec((None, None, padded, depth), lambda group, program: (group, program, 0, 0))
    d_query, *of_programs = pl.pallas_call(
        partial(_backward, count=count, anchors=anchors, tiles=tiles),
        grid=(groups, programs),
        in_specs=[of_query, of_anchors, of_anchors, of_query],
        out_specs=[of_query, of_sums, of_sums],
        out_shape=[jax.ShapeDtypeStruct(query.shape, query.dtype), sums, sums],
        compiler_params=triton.CompilerParams(num_warps=WARPS),
        interpret=interpret,
        name="attend_gradients",
    )(query, _pad(key), _pad(value), jnp.concatenate(jnp.split(gradient, bands, axis=-1)))
    d_key, d_value = (_beside_each_other(x.sum(1)[:, :anchors], bands).astype(key.dtype) for x in of_programs)
    return jnp.split(d_query, bands), d_key, d_value


def _beside_each_other(x: Float[Array, "g n d"], bands: int) -> Float[Array, "b n c"]:
    return jnp.concatenate(jnp.split(x, bands), axis=-1)


def _share(groups: int, count: int, fewest_programs: int) -> tuple[int, int]:
    """Programs for a group, and tiles for each of them."""
    tiles = pl.cdiv(count, TILE)
    each = max(1, min(TILES, tiles, groups * tiles // fewest_programs))
    return pl.cdiv(tiles, each), each


def _padded(anchors: int) -> int:
    return max(16, pl.next_power_of_2(anchors))


def _pad(x: Anchors) -> Float[Array, "b padded d"]:
    return jnp.pad(x, ((0, 0), (0, _padded(x.shape[1]) - x.shape[1]), (0, 0)))


def _blocks(count: int, depth: int, anchors: int) -> tuple[pl.BlockSpec, pl.BlockSpec]:
    """What of the queries and of the padded anchors a program sees: its group's."""
    of_query = pl.BlockSpec((None, count, depth), lambda group, program: (group, 0, 0))
    return of_query, pl.BlockSpec((None, _padded(anchors), depth), lambda group, program: (group, 0, 0))


def _tile(index: Any, count: int) -> tuple[Any, Any]:
    """The rows of a tile, and which of them there are."""
    return pl.ds(index * TILE, TILE), (index * TILE + jnp.arange(TILE) < count)[:, None]


def _logits(query: Array, key: Array, anchors: int) -> Array:
    logits = _dot(query, key.T)
    there = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1) < anchors
    return jnp.where(there, logits, -jnp.inf)


def _dot(a: Array, b: Array) -> Array:
    return jnp.dot(a, b, precision=jax.lax.Precision.DEFAULT, preferred_element_type=jnp.float32)


def _forward(query_ref: Any, key_ref: Any, value_ref: Any, out_ref: Any, *, count: int, anchors: int, tiles: int):
    key, value = key_ref[...], value_ref[...]
    first = pl.program_id(1) * tiles

    def step(index: Any, _: None) -> None:
        rows, there = _tile(first + index, count)
        query = triton.load(query_ref.at[rows, :], mask=there, other=0)
        logits = _logits(query, key, anchors)
        powers = jnp.exp(logits - logits.max(-1, keepdims=True))
        out = _dot(powers.astype(value.dtype), value) / powers.sum(-1, keepdims=True)
        triton.store(out_ref.at[rows, :], out.astype(query.dtype), mask=there)

    jax.lax.fori_loop(0, tiles, step, None)


def _backward(
    query_ref: Any,
    key_ref: Any,
    value_ref: Any,
    gradient_ref: Any,
    d_query_ref: Any,
    d_key_ref: Any,
    d_value_ref: Any,
    *,
    count: int,
    anchors: int,
    tiles: int,
):
    key, value = key_ref[...], value_ref[...]
    first = pl.program_id(1) * tiles

    def step(index: Any, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, there = _tile(first + index, count)
        query = triton.load(query_ref.at[rows, :], mask=there, other=0)
        gradient = triton.load(gradient_ref.at[rows, :], mask=there, other=0)
        logits = _logits(query, key, anchors)
        powers = jnp.exp(logits - logits.max(-1, keepdims=True))
        maps = powers / powers.sum(-1, keepdims=True)
        d_maps = _dot(gradient, value.T)
        shared = (maps * d_maps).sum(-1, keepdims=True)
        d_logits = (maps * (d_maps - shared)).astype(key.dtype)
        triton.store(d_query_ref.at[rows, :], _dot(d_logits, key).astype(query.dtype), mask=there)
        return sums[0] + _dot(d_logits.T, query), sums[1] + _dot(maps.astype(gradient.dtype).T, gradient)

    zeros = jnp.zeros(key.shape, jnp.float32)
    d_key_ref[...], d_value_ref[...] = jax.lax.fori_loop(0, tiles, step, (zeros, zeros))
