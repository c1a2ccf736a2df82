"""De-raining whole pictures of any size with trained weights."""

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.stages import Compiled

from multifocal_jax.config import ModelConfig, Precision
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation import memory, programs
from multifocal_jax.evaluation.sizes import Size, Sizes
from multifocal_jax.evaluation.tiles import blend_tiles
from multifocal_jax.padding import pad_to_multiple, round_up
from multifocal_jax.weights import load_weights
from multifocal_jax.weights_lookup import DEFAULT_NAME, find_weights

if TYPE_CHECKING:
    from multifocal_jax.models import MultifocalNet

_KEPT_PROGRAMS = 32  # the latest used
_WORTH = {"cpu": 700_000}  # pixels that are de-rained in the time of compiling: 8 µs each against 5.6 s
_WORTH_ELSEWHERE = 1_000_000_000
_BYTES_BESIDE_TILES = 24  # per pixel of the whole picture: float32 sums and weights, picture, result


class InferenceError(UserError):
    """A picture cannot be de-rained as asked. The message says why and what would do."""


class Derainer:
    """De-rains pictures: `derainer(image) -> image`.

    Pictures are reflected at the right and bottom to the next multiple of `model.multiple` (8 by default) and cut
    back. The network is compiled on first use, for the size of the picture. A program is told the size of what it is
    given, and makes of a smaller picture what a program of that size would, up to rounding; so pictures of many sizes
    share programs (`Sizes` says which). `programs.keep_in` keeps them from run to run, as does JAX's own
    `JAX_COMPILATION_CACHE_DIR`.

    Args:
        params: the network's parameters, nested as Flax names them.
        model: the architecture.
        precision: of the computation. "float32" means float32 on every platform; a GPU's TF32 is not used.
        tile: side in pixels of the tiles that a picture is cut into to need less memory; 0 takes it whole. The
            network pools over what it sees, so tiles change the result slightly.
        overlap: pixels by which tiles overlap.
        ensemble: mean over the eight flips and quarter turns, eight times as slow. Weights that were trained without
            flips and rotations know rain as it falls: for them the mean is worse than the picture as it is.
        devices: spread the rows of every picture over so many devices; must divide `model.multiple`.
        platform: of these devices, such as "cpu"; None takes JAX's default.

    Raises:
        InferenceError: tile, overlap or devices cannot be had.
    """

    def __init__(
        self,
        params: Any,
        model: ModelConfig,
        *,
        precision: Precision = "float32",
        tile: int = 0,
        overlap: int = 32,
        ensemble: bool = False,
        devices: int = 1,
        platform: str | None = None,
    ) -> None:
        self.model = model
        self.precision: Precision = precision
        self.tile = round_up(tile, model.multiple)
        self.overlap = overlap
        self.ensemble = ensemble
        if tile < 0 or overlap < 0 or (tile and overlap >= tile):
            raise InferenceError(f"tile {tile} with overlap {overlap}: tiles must be larger than their overlap")
        if devices < 1 or model.multiple % devices:
            fitting = ", ".join(str(n) for n in range(1, model.multiple + 1) if model.multiple % n == 0)
            raise InferenceError(f"rows cannot be spread over {devices} devices; possible: {fitting}")
        found = jax.local_devices(backend=platform)
        if devices > len(found):
            raise InferenceError(f"{devices} devices were asked for; JAX finds {len(found)}")
        self._devices = found[:devices]
        mesh = jax.make_mesh((devices,), ("rows",), (AxisType.Auto,), devices=self._devices)
        self._rows = NamedSharding(mesh, PartitionSpec(None, "rows"))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._programs: dict[Any, Compiled] = {}
        self._sizes: dict[Any, Sizes] = {}
        self._params = self._place(params)

    def with_params(self, params: Any) -> Self:
        """The same with other parameters; programs that are compiled already are shared."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._params = self._place(params)
        return other

    def planned_memory(self, shape: tuple[int, ...], dtype: Any = np.uint8) -> int:
        """Bytes per device that the compiler plans for a whole picture (H, W, 3) of this dtype, weights included.

        That is of a program of its size; a larger one needs more, and is not used where memory does not suffice.

        Raises:
            InferenceError: there is less memory than that.
        """
        height, width = (round_up(side, self.model.multiple) for side in shape[:2])
        with self._settings():
            return memory.needed(self._program((1, height, width, 3), np.dtype(dtype)))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """De-rain a picture or a batch.

        Args:
            image: (H, W, 3) or (B, H, W, 3) RGB from 1×1 up; uint8, uint16, or a float in [0, 1].

        Returns:
            A NumPy array of the same shape and dtype; floats are clipped to [0, 1], integers rounded.

        Raises:
            InferenceError: the shape or dtype is another, or memory does not suffice.
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
        """What `__call__` clips and rounds: floats of the shape of the batch (B, H, W, 3)."""
        return self._ensemble(batch) if self.ensemble else self._padded(batch)

    def _ensemble(self, batch: np.ndarray) -> np.ndarray:
        total: Any = 0
        for flip in (False, True):
            for turns in range(4):
                view = np.rot90(batch[:, :, ::-1] if flip else batch, turns, axes=(1, 2))
                result = np.rot90(self._padded(view), -turns, axes=(1, 2))
                total = total + (result[:, :, ::-1] if flip else result)
        return total / 8

    def _padded(self, batch: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) of any size to floats, not clipped."""
        height, width = batch.shape[1:3]
        batch = pad_to_multiple(batch, self.model.multiple)
        if self.tile:
            result = blend_tiles(self._run, batch, self.tile, self.overlap, self.model.multiple)
        else:
            result = self._run(batch)
        return result[:, :height, :width]

    def _run(self, batch: np.ndarray) -> np.ndarray:
        with self._settings():
            if batch.dtype not in (np.uint8, np.uint16):
                batch = batch.astype(self._dtype)
            count, height, width, _ = batch.shape
            worth = _WORTH.get(self._devices[0].platform, _WORTH_ELSEWHERE)
            sizes = self._sizes.setdefault((count, str(batch.dtype)), Sizes(worth))
            own = height, width
            size = sizes.program_for(own)
            try:
                return self._run_program(size, batch)
            except InferenceError:
                sizes.discard(size)
                if size == own:
                    raise
            return self._run_program(own, batch)  # for which the memory may suffice

    def _run_program(self, size: Size, batch: np.ndarray) -> np.ndarray:
        """Through the program for a size (height, width) that is not below the batch's."""
        _, height, width, _ = batch.shape
        batch = np.pad(batch, ((0, 0), (0, size[0] - height), (0, size[1] - width), (0, 0)))
        program = self._program(batch.shape, batch.dtype)
        try:
            placed = jax.device_put(batch, self._rows)
            return np.asarray(program(self._params, placed, np.array([height, width], np.int32)))[:, :height, :width]
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise self._too_large(batch.shape, memory.needed(program), None) from None

    def _program(self, shape: tuple[int, ...], dtype: np.dtype) -> Compiled:
        """The network compiled for a shape; refused if the device has less memory than the compiler has planned."""
        key = (shape, str(dtype))
        program = self._programs.pop(key, None)
        if program is None:
            compile_program = partial(self._compile, shape, dtype)
            program = programs.kept((self.model, self.precision, *key), self._devices, compile_program)
            if len(self._programs) >= _KEPT_PROGRAMS:
                del self._programs[next(iter(self._programs))]
        self._programs[key] = program
        free = memory.available(self._devices[0])
        if free is not None and memory.needed(program) > free:
            raise self._too_large(shape, memory.needed(program), free)
        return program

    def _compile(self, shape: tuple[int, ...], dtype: np.dtype) -> Compiled:
        from multifocal_jax.models import MultifocalNet  # late: a program that was kept needs no network

        network = MultifocalNet(
            self.model,
            dtype=self._dtype_of_computation,
            param_dtype=jnp.promote_types(self._dtype, jnp.float32),
            plain=len(self._devices) > 1,  # strips of rows would cut across the rows of the devices
            looped=True,
        )
        batch = jax.ShapeDtypeStruct(shape, dtype, sharding=self._rows)
        size = jax.ShapeDtypeStruct((2,), np.int32, sharding=self._everywhere)
        forward = jax.jit(partial(_forward, network, self._dtype), out_shardings=self._rows)
        return forward.lower(self._params, batch, size).compile()

    def _too_large(self, shape: tuple[int, ...], needed: int, free: int | None) -> InferenceError:
        _, height, width, _ = shape
        room: float = free if free is not None else needed / 2
        if self._devices[0].platform == "cpu":  # where the tiles' results are put together in the same memory
            room -= _BYTES_BESIDE_TILES * height * width
        side = int(math.sqrt(height * width * max(0.0, 0.7 * room / max(needed, 1)))) // 64 * 64
        has = "the device has less" if free is None else f"{memory.spell(free)} are free"
        fits = f"tiles of {side} pixels would fit (--tile {side})" if side else "even tiles would not fit"
        return InferenceError(
            f"a picture of {width}x{height} pixels needs {memory.spell(needed)} at once and {has}; {fits}"
        )

    @property
    def _dtype(self) -> Any:
        """Of images inside: float32, or float64 for that precision."""
        return jnp.promote_types(self._dtype_of_computation, jnp.float32)

    @property
    def _dtype_of_computation(self) -> Any:
        return jnp.dtype(self.precision)

    def _place(self, params: Any) -> Any:
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
    tile: int = 0,
    overlap: int = 32,
    ensemble: bool = False,
    devices: int = 1,
) -> Derainer:
    """A `Derainer` with stored weights: `clean = load("weights.safetensors")(rainy)`.

    Args:
        name_or_path: a `.safetensors` file, a workdir of `train.py`, or the name of packaged weights.
        precision, tile, overlap, ensemble, devices: see `Derainer`.

    Raises:
        WeightsError: there are no such weights or the file is damaged.
        InferenceError: see `Derainer`.
    """
    weights = load_weights(find_weights(name_or_path))
    return Derainer(
        weights.params,
        weights.model,
        precision=precision,
        tile=tile,
        overlap=overlap,
        ensemble=ensemble,
        devices=devices,
    )


def _forward(network: "MultifocalNet", dtype: Any, params: Any, batch: jax.Array, size: jax.Array) -> jax.Array:
    """(B, H, W, 3) of integers or floats, of which (height, width) are picture, to floats, not clipped."""
    scale = jnp.iinfo(batch.dtype).max if jnp.issubdtype(batch.dtype, jnp.integer) else 1
    result = network.apply({"params": params}, batch.astype(dtype) / scale, size)
    assert isinstance(result, jax.Array)
    return result


def _finish(result: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Clamp to [0, 1], scale, round half up; row by row, as copies of a large picture would need much memory."""
    finished = np.empty(result.shape, dtype)
    for rows, target in zip(np.moveaxis(result, 1, 0), np.moveaxis(finished, 1, 0), strict=True):
        clipped = np.clip(rows, 0, 1)
        target[...] = np.floor(clipped * np.iinfo(dtype).max + 0.5) if np.issubdtype(dtype, np.integer) else clipped
    return finished
