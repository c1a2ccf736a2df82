"""Data parallelism over all devices of all processes, in two ways with the same step."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from multifocal_jax.errors import UserError
from multifocal_jax.training.state import TrainState
from multifocal_jax.training.step import AXIS, Batch, Metrics, Step

REPLICATED, SPLIT = PartitionSpec(), PartitionSpec(AXIS)


class BatchSizeError(UserError):
    """The global batch does not divide evenly over the devices."""


def check_batch_size(batch_size: int, accumulate: int, devices: int) -> None:
    """Refuse a global batch that does not divide evenly over the devices and the parts of an accumulated step.

    Raises:
        BatchSizeError: the message gives the nearest sizes that do.
    """
    unit = devices * accumulate
    if batch_size % unit:
        below = batch_size // unit * unit
        sizes = [size for size in (below, below + unit, below + 2 * unit) if size]
        raise BatchSizeError(
            f"train.batch_size is {batch_size}, the batch over all devices, and does not divide over {devices} devices"
            + (f" in {accumulate} parts each" if accumulate > 1 else "")
            + f"; take {', '.join(map(str, sizes[:-1]))} or {sizes[-1]}, …, or fewer devices"
        )


class DataParallel:
    """A training step over all devices: state and resident data are replicated, the batch is split, gradients averaged.

    `pmap` is what this project set out to use; `shard_map` under `jit`, over a mesh with the axis "data", is its
    successor. Both compute the same.
    """

    def __init__(self, way: Literal["pmap", "shard_map"], step: Step, devices: Sequence[Any] | None = None) -> None:
        """Wrap a step made with `axis=AXIS`.

        Args:
            way: the JAX transformation.
            step: of one device; see `make_step`.
            devices: to use; None means all devices of all processes.
        """
        self.way = way
        self.devices = list(jax.devices() if devices is None else devices)
        local = [device for device in self.devices if device.process_index == jax.process_index()]
        self.mesh, self.local_mesh = (Mesh(np.asarray(some), (AXIS,)) for some in (self.devices, local))
        if way == "pmap":
            self.step: Callable[..., tuple[TrainState, Metrics]] = jax.pmap(
                step,
                axis_name=AXIS,
                in_axes=(None, None, 0),
                out_axes=(None, None),  # pyright: ignore[reportArgumentType]
                devices=self.devices,
                donate_argnums=(0,),
            )
        else:
            self.step = jax.jit(
                jax.shard_map(
                    step,
                    mesh=self.mesh,
                    in_specs=(REPLICATED, REPLICATED, SPLIT),
                    out_specs=(REPLICATED, REPLICATED),
                    check_vma=False,  # gradients are averaged by the step itself, as under pmap
                ),
                donate_argnums=(0,),
            )

    def replicate(self, tree: Any) -> Any:
        """Put the same arrays on every device."""
        mesh = self.local_mesh if self.way == "pmap" else self.mesh
        return jax.device_put(tree, NamedSharding(mesh, REPLICATED))

    def split(self, batch: Batch) -> Batch:
        """Spread this process's slice of the global batch over its devices."""
        local = len(self.local_mesh.devices)
        if self.way == "pmap":
            batch = jax.tree.map(lambda x: x.reshape(local, -1, *x.shape[1:]), batch)
        # explicit transfers, which a transfer guard lets pass, unlike those of make_array_from_process_local_data
        batch = jax.device_put(batch, NamedSharding(self.local_mesh, SPLIT))
        if self.way == "pmap" or local == len(self.devices):
            return batch

        def joined(x: jax.Array) -> jax.Array:
            shape = (x.shape[0] * len(self.devices) // local, *x.shape[1:])
            shards = [shard.data for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(shape, NamedSharding(self.mesh, SPLIT), shards)

        return jax.tree.map(joined, batch)

    def __call__(self, state: TrainState, resident: Any, batch: Batch) -> tuple[TrainState, Metrics]:
        """Take one step on this process's slice of the global batch; `state` is donated."""
        return self.step(state, resident, self.split(batch))


def to_host(tree: Any) -> Any:
    """Replicated arrays as NumPy arrays, for any number of processes."""
    local = jax.tree.map(lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x, tree)
    return jax.device_get(local)
