"""Measures how fast training batches are made: crops per second in each mode, and the time a step waits for them."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax

from multifocal_jax.data.crops import Batch, thread_count
from multifocal_jax.data.pipeline import TrainingData


@dataclass(frozen=True)
class ModeSpeed:
    """The speed of one mode."""

    mode: str
    host: float  # pairs per second that the host hands out
    prepared: float  # pairs per second after transfer and `prepare` on the device
    waiting: dict[float, float]  # seconds that a step takes → share of it spent waiting for the next batch


def measure(data: TrainingData, seconds: float, step_seconds: tuple[float, ...]) -> ModeSpeed:
    """Measure the mode that `data` is opened in, each figure for so many seconds, once all pictures are decoded.

    `step_seconds` are durations of the training step for which the waiting share is measured. The host sleeps during
    the step, as it would while an accelerator computes.
    """
    rows = data.batch_size
    batches = data.batches(0)
    next(batches)
    host = rows * _rate(batches, seconds)
    resident, prepare = jax.device_put(data.resident), jax.jit(data.prepare)
    jax.block_until_ready(prepare(resident, next(batches)))
    prepared = rows * _rate((jax.block_until_ready(prepare(resident, batch)) for batch in batches), seconds)
    waiting = {step: _waiting_share(data.batches(0), step, seconds) for step in step_seconds}
    return ModeSpeed(data.mode, host, prepared, waiting)


def decoder_speed(load: Callable[[int], object], count: int, seconds: float) -> float:
    """Pictures or pairs per second that Pillow decodes in `thread_count()` threads, the limit for streaming.

    `load` decodes one of `count` pictures by number; it is measured for so many seconds.
    """
    threads = thread_count()
    done, start = 0, time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        while (spent := time.perf_counter() - start) < seconds:
            list(pool.map(load, (number % count for number in range(done, done + 8 * threads))))
            done += 8 * threads
    return done / spent


def _rate(iterator: Iterator[object], seconds: float) -> float:
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        next(iterator)
        count += 1
    return count / spent


def _waiting_share(batches: Iterator[Batch], step: float, seconds: float) -> float:
    next(batches)
    time.sleep(step)
    waited, start = 0.0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - before
        time.sleep(step)
    return waited / (time.perf_counter() - start)
