"""De-raining whole pictures of any size with trained weights."""

import contextlib
import copy
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.stages import Compiled

from multifocal_jax.config import ModelConfig, Precision
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation import memory, programs
from multifocal_jax.evaluation.progress import Compiling, Report, Running, Tiling, in_background
from multifocal_jax.evaluation.sizes import Size, Sizes
from multifocal_jax.evaluation.tiles import blend_tiles, side_within, starts
from multifocal_jax.networks import Network, build_network
from multifocal_jax.padding import pad_to_multiple, round_up
from multifocal_jax.weights import load_weights
from multifocal_jax.weights_lookup import DEFAULT_NAME, find_weights

MOST_STRENGTH = 1.5
TILES = (2048, 1024, 512)  # sides in pixels; the largest that fits is used if the whole picture does not fit
_KEPT_PROGRAMS = 32  # the most recently used
_WORTH = {"cpu": 700_000}  # pixels that are de-rained in the time of compiling: 8 µs each against 5.6 s
_WORTH_ELSEWHERE = 1_000_000_000
_LEAST = 0.97  # bytes per pixel of any size are at least this share of those of another size
_TELLING = 1.0  # shortest run, in seconds, whose speed is remembered: start-up dominates shorter ones


class InferenceError(UserError):
    """A picture cannot be de-rained as asked. The message says why, and what is possible."""


class TooLargeError(InferenceError):
    """A picture does not fit into memory.

    Attributes:
        needed: bytes that it needs in addition to what the process already uses.
        free: bytes available; None if the device does not report it.
        side: side in pixels of the largest tile that fits, a multiple of 64; 0 if none does.
    """

    def __init__(self, message: str, needed: int, free: int | None, side: int) -> None:
        super().__init__(message)
        self.needed, self.free, self.side = needed, free, side

    def advice(self, option: str) -> str:
        """The message, with the tile that fits as a value of the entry point's `option`."""
        return f"{self} ({option}{self.side})" if self.side else str(self)


@dataclass(frozen=True)
class _Picture:
    """A picture or batch on its way through the network."""

    own: Size  # height and width before padding
    shape: tuple[int, ...]  # (B, H, W, 3), padded to multiples
    dtype: np.dtype
    tile: int  # side of its tiles; 0 if it is processed whole

    @property
    def cut(self) -> Size:
        """Height and width of the picture or of one tile."""
        _, height, width, _ = self.shape
        return (min(self.tile, height), min(self.tile, width)) if self.tile else (height, width)


class Derainer:
    """De-rains pictures: `derainer(image) -> image`.

    Pictures are padded by reflection at the right and bottom to the next multiple of `model.multiple` (8 by default),
    and the result is cropped. The network is compiled on first use, for the size of the picture. A program is told the
    size of its picture and computes for a smaller one what a program of that size would, up to rounding; so pictures of
    many sizes share programs (`Sizes` decides which). `programs.keep_in` caches them on disk, as does JAX's own
    `JAX_COMPILATION_CACHE_DIR`.

    Args:
        params: the network's parameters, nested as Flax names them.
        model: the architecture.
        precision: of the computation. "float32" means float32 on every platform; a GPU's TF32 is not used.
        tile: side in pixels of the tiles into which a picture is split to save memory; 0 processes it whole. None
            processes it whole if memory allows, otherwise in the largest of `TILES` that fit; pictures of the same
            size, such as the frames of a video, are treated alike, and get smaller tiles only if memory runs short. The
            network pools over its whole input, so tiles change the result slightly.
        overlap: pixels by which tiles overlap.
        ensemble: average over the eight flips and quarter turns, eight times as slow. It makes results worse for
            weights trained without flips and rotations, which only know rain that falls downwards.
        strength: s of B̂ = O − s·R, 0 to 1.5: 0 changes nothing, 1 removes exactly the rain that the network estimates.
        devices: split the rows of every picture over this many devices; must divide `model.multiple`.
        platform: of these devices, such as "cpu"; None means JAX's default.
        progress: called with what is being done; see `multifocal_jax.evaluation.progress`. An exception that it raises
            ends the call.

    Raises:
        InferenceError: the tile, overlap, strength or number of devices is not possible.
    """

    def __init__(
        self,
        params: Any,
        model: ModelConfig,
        *,
        precision: Precision = "float32",
        tile: int | None = 0,
        overlap: int = 32,
        ensemble: bool = False,
        strength: float = 1.0,
        devices: int = 1,
        platform: str | None = None,
        progress: Report | None = None,
    ) -> None:
        self.model, self.precision = model, precision
        self.tile = None if tile is None else round_up(tile, model.multiple)
        self.overlap, self.ensemble, self.strength = overlap, ensemble, strength
        if not 0 <= strength <= MOST_STRENGTH:
            raise InferenceError(f"strength {strength}; allowed: 0 to {MOST_STRENGTH}")
        smallest = min(TILES) if tile is None else tile
        if smallest < 0 or overlap < 0 or (smallest and overlap >= smallest):
            raise InferenceError(f"tile {smallest} with overlap {overlap}: tiles must be larger than their overlap")
        if devices < 1 or model.multiple % devices:
            fitting = ", ".join(str(n) for n in range(1, model.multiple + 1) if model.multiple % n == 0)
            raise InferenceError(f"rows cannot be spread over {devices} devices; possible: {fitting}")
        found = jax.local_devices(backend=platform)
        if devices > len(found):
            raise InferenceError(f"{devices} devices were asked for; JAX finds {len(found)}")
        self._devices, self._platform = found[:devices], found[0].platform
        mesh = jax.make_mesh((devices,), ("rows",), (AxisType.Auto,), devices=self._devices)
        self._rows = NamedSharding(mesh, PartitionSpec(None, "rows"))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._programs: dict[Any, Compiled] = {}
        self._sizes: dict[Any, Sizes] = {}
        self._network = build_network(model, dtype=jnp.dtype(precision), devices=devices)
        self._dtype: Any = jnp.promote_types(jnp.dtype(precision), jnp.float32)  # of images inside
        self._chosen: dict[Any, int] = {}  # automatic tile of each picture size
        self._least: dict[Any, float] = {}  # bytes per pixel of a program, from the most recent one
        known = programs.speed((model, precision), self._devices)
        self._speed = [] if known is None else [known]  # seconds per pixel of the last run that was long enough
        self._report: Report = progress or (lambda _: None)
        self._params = self._place(params)

    def with_params(self, params: Any) -> Self:
        """A copy with other parameters that shares the compiled programs."""
        other = copy.copy(self)
        other._params = self._place(params)
        return other

    def planned_memory(self, shape: tuple[int, ...], dtype: Any = np.uint8) -> int:
        """Bytes per device for a whole picture (H, W, 3) of this dtype, in addition to what the process already uses.

        That is the compiler's plan, including weights, and memory beyond it. Raises TooLargeError if less is available.
        """
        height, width = (round_up(side, self.model.multiple) for side in shape[:2])
        picture = _Picture((shape[0], shape[1]), (1, height, width, 3), np.dtype(dtype), 0)
        return self._needed(self._program(picture, picture.cut)) + self._beside(picture)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """De-rain a picture or a batch.

        Args:
            image: (H, W, 3) or (B, H, W, 3) RGB, 1×1 or larger; uint8, uint16, or floats in [0, 1].

        Returns:
            A NumPy array of the same shape and dtype; floats are clipped to [0, 1], integers rounded.

        Raises:
            InferenceError: the shape or dtype is not supported.
            TooLargeError: the picture does not fit into memory; a subclass of `InferenceError`.
        """
        image = np.asarray(image)
        if image.ndim not in (3, 4) or image.shape[-1] != 3 or 0 in image.shape:
            raise InferenceError(
                f"the picture has shape {image.shape}; allowed: (height, width, 3) or (batch, height, width, 3)"
            )
        if image.dtype not in (np.uint8, np.uint16) and not jnp.issubdtype(image.dtype, jnp.floating):
            raise InferenceError(f"the picture is {image.dtype}; allowed: uint8, uint16, or floats in [0, 1]")
        batch = image if image.ndim == 4 else image[None]
        return _finish(self.unclipped(batch), image.dtype).reshape(image.shape)

    def unclipped(self, batch: np.ndarray) -> np.ndarray:
        """The result before `__call__` clips and rounds it: floats of the batch's shape (B, H, W, 3)."""
        if not self.ensemble:
            return self._padded(batch)
        total: Any = 0
        for flip, turns in itertools.product((1, -1), range(4)):
            result = self._padded(np.rot90(batch[:, :, ::flip], turns, axes=(1, 2)))
            total = total + np.rot90(result, -turns, axes=(1, 2))[:, :, ::flip]
        return total / 8

    def _padded(self, batch: np.ndarray) -> np.ndarray:
        """De-rain (B, H, W, 3) of any size; floats, not clipped."""
        height, width = batch.shape[1:3]
        if batch.dtype not in (np.uint8, np.uint16):
            batch = batch.astype(self._dtype)
        batch = pad_to_multiple(batch, self.model.multiple)
        count, *sides, _ = batch.shape
        key = count, *sorted(sides), str(batch.dtype)  # portrait and landscape are treated alike
        while True:
            tile = self._chosen.get(key, 0) if self.tile is None else self.tile
            try:
                picture = _Picture((height, width), batch.shape, batch.dtype, tile)
                return self._in_tiles(batch, picture)[:, :height, :width]
            except TooLargeError as error:
                below = min(error.side, (tile or max(sides)) - 1)
                smaller = next((side for side in TILES if self.overlap < side <= below), None)
                if self.tile is not None or smaller is None:
                    raise
                self._chosen[key] = smaller
                self._report(Tiling(height, width, smaller, error.needed, error.free))

    def _in_tiles(self, batch: np.ndarray, picture: _Picture) -> np.ndarray:
        """De-rain (B, H, W, 3) padded to multiples; floats."""
        own, lengths = picture.cut, batch.shape[1:3]
        positions = (starts(*both, self.overlap, self.model.multiple) for both in zip(lengths, own, strict=True))
        times = math.prod(map(len, positions))
        worth = _WORTH.get(self._platform, _WORTH_ELSEWHERE)
        sizes = self._sizes.setdefault((len(batch), str(batch.dtype)), Sizes(worth))
        size = sizes.program_for(own, times) if self._network.takes_size else own
        try:
            return self._through(size, batch, picture, times)
        except TooLargeError:
            sizes.discard(size)
            if size == own:
                raise
        return self._through(own, batch, picture, times)  # a smaller program, which may fit

    def _through(self, size: Size, batch: np.ndarray, picture: _Picture, times: int) -> np.ndarray:
        """De-rain with the program for a size (height, width) at least that of the picture or its tiles."""
        program = self._program(picture, size)
        pixels = times * len(batch) * size[0] * size[1]
        expected = pixels * self._speed[0] if self._speed else None
        done, begin = 0, time.perf_counter()

        def tell() -> None:
            seconds = time.perf_counter() - begin
            self._report(Running(*picture.own, done, times, seconds, expected))

        def run(piece: np.ndarray) -> np.ndarray:
            nonlocal done
            result = in_background(partial(self._run, program, size, piece), tell)
            done += 1
            tell()
            return result

        tell()
        try:
            if picture.tile:
                result = blend_tiles(run, batch, picture.tile, self.overlap, self.model.multiple)
            else:
                result = run(batch)
        except jax.errors.JaxRuntimeError as error:
            if not memory.exhausted(error):
                raise
            raise self._too_large(picture, size, self._needed(program), None) from None
        seconds = time.perf_counter() - begin
        if seconds >= _TELLING:
            self._speed[:] = [seconds / pixels]
            programs.keep_speed((self.model, self.precision), self._devices, *self._speed)
        return result

    def _run(self, program: Compiled, size: Size, batch: np.ndarray) -> np.ndarray:
        with self._settings():
            _, height, width, _ = batch.shape
            if size != (height, width):
                batch = np.pad(batch, ((0, 0), (0, size[0] - height), (0, size[1] - width), (0, 0)))
            placed = jax.device_put(batch, self._rows)
            return np.asarray(program(self._params, placed, np.array([height, width], np.int32)))[:, :height, :width]

    def _program(self, picture: _Picture, size: Size) -> Compiled:
        """The network compiled for a picture or its tiles at this size; refused if it does not fit into memory."""
        count, dtype, pixels = picture.shape[0], picture.dtype, picture.shape[0] * size[0] * size[1]
        key = (count, *size, 3), str(dtype)
        program = self._programs.pop(key, None)
        fixed = memory.fixed(self._devices[0])
        if program is None:
            if least := self._least.get(str(dtype)):  # known to be too large before it is compiled
                self._check(picture, size, round(least * pixels) + fixed)
            compile_program = partial(self._compile, key[0], dtype)
            program = programs.kept((self.model, self.precision, *key), self._devices, compile_program)
            if len(self._programs) >= _KEPT_PROGRAMS:
                del self._programs[next(iter(self._programs))]
        self._programs[key] = program
        if pixels >= min(TILES) ** 2:  # in smaller ones the weights dominate
            self._least[str(dtype)] = _LEAST * (self._needed(program) - fixed) / pixels
        self._check(picture, size, self._needed(program))
        return program

    def _compile(self, shape: tuple[int, ...], dtype: np.dtype) -> Compiled:
        self._report(Compiling(*shape[1:3]))
        return in_background(partial(self._compiled, shape, dtype))

    def _compiled(self, shape: tuple[int, ...], dtype: np.dtype) -> Compiled:
        batch = jax.ShapeDtypeStruct(shape, dtype, sharding=self._rows)
        size = jax.ShapeDtypeStruct((2,), np.int32, sharding=self._everywhere)
        forward = jax.jit(partial(_forward, self._network, self._dtype), out_shardings=self._rows)
        with self._settings():
            return forward.lower(self._params, batch, size).compile()

    def _needed(self, program: Compiled) -> int:
        return memory.needed(program, self._devices[0])

    def _beside(self, picture: _Picture) -> int:
        """Bytes for a picture outside the program; on a CPU they come from the same memory."""
        if self._platform != "cpu":
            return 0
        values = math.prod(picture.shape)
        copies = 2 * picture.dtype.itemsize  # one padded by reflection, one for a larger program
        floats = 4 / 3 * bool(picture.tile) + 2 * self.ensemble  # sums and weights of tiles; sum of views, and one
        return round(values * (copies + floats * self._dtype.itemsize))

    def _check(self, picture: _Picture, size: Size, needed: int) -> None:
        shares = len(self._devices) if self._platform == "cpu" else 1  # which share one memory
        free = memory.lack(self._devices[0], shares * needed + self._beside(picture))
        if free is not None:
            raise self._too_large(picture, size, shares * needed, free)

    def _too_large(self, picture: _Picture, size: Size, needed: int, free: int | None) -> TooLargeError:
        height, width = picture.own
        fixed = memory.fixed(self._devices[0])
        available = (needed / 2 if free is None else free) - fixed - self._beside(replace(picture, tile=1))
        fitting = max(0, int(_LEAST * available / max(needed - fixed, 1) * size[0] * size[1]))
        side = side_within(fitting, height, width)
        needed += self._beside(picture)
        what = f"a picture of {width}x{height} pixels" + (f" in tiles of {picture.tile}" if picture.tile else "")
        has = "the device has less" if free is None else f"{memory.spell(free)} are free"
        fits = f"tiles of {side} pixels would fit" if side else "even tiles would not fit"
        return TooLargeError(f"{what} needs {memory.spell(needed)} at once and {has}; {fits}", needed, free, side)

    def _place(self, params: Any) -> Any:
        if self.strength != 1:  # R is the result of a convolution, which is linear in its kernel and bias
            weaker = jax.tree.map(lambda value: value * self.strength, params["fusion"]["residual"])
            params = params | {"fusion": params["fusion"] | {"residual": weaker}}
        with self._settings():
            return jax.device_put(jax.tree.map(lambda value: np.asarray(value, self._dtype), params), self._everywhere)

    @contextlib.contextmanager
    def _settings(self) -> Iterator[None]:
        with jax.enable_x64(self.precision == "float64"), jax.default_matmul_precision("highest"):
            yield


def load(
    name_or_path: str | Path = DEFAULT_NAME,
    *,
    precision: Precision = "float32",
    tile: int | None = None,
    overlap: int = 32,
    ensemble: bool = False,
    strength: float = 1.0,
    devices: int = 1,
    progress: Report | None = None,
) -> Derainer:
    """Load weights into a `Derainer`: `clean = load("weights.safetensors")(rainy)`.

    Args:
        name_or_path: a `.safetensors` file, a workdir of a training, or the name of packaged weights.
        tile: see `Derainer`; by default, a picture is tiled only if it does not fit into memory.
        precision, overlap, ensemble, strength, devices, progress: see `Derainer`.

    Raises:
        WeightsError: the weights do not exist or the file is damaged.
        InferenceError: see `Derainer`.
    """
    weights = load_weights(find_weights(name_or_path))
    options = {"precision": precision, "tile": tile, "overlap": overlap, "ensemble": ensemble, "strength": strength}
    return Derainer(weights.params, weights.model, devices=devices, progress=progress, **options)


def _forward(network: Network, dtype: Any, params: Any, batch: jax.Array, size: jax.Array) -> jax.Array:
    """De-rain (B, H, W, 3) integers or floats, of which (height, width) are the picture; floats, not clipped."""
    scale = jnp.iinfo(batch.dtype).max if jnp.issubdtype(batch.dtype, jnp.integer) else 1
    sizes = (size,) if network.takes_size else ()
    return network.apply({"params": params}, batch.astype(dtype) / scale, *sizes)


def _finish(result: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Clamp to [0, 1], scale, round half up; row by row, as copies of a large picture would need much memory."""
    finished = np.empty(result.shape, dtype)
    for rows, target in zip(np.moveaxis(result, 1, 0), np.moveaxis(finished, 1, 0), strict=True):
        clipped = np.clip(rows, 0, 1)
        target[...] = np.floor(clipped * np.iinfo(dtype).max + 0.5) if np.issubdtype(dtype, np.integer) else clipped
    return finished
