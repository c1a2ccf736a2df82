"""What commands set for their process before JAX starts."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from multifocal_jax.cli import machine

CORES = min(len(os.sched_getaffinity(0)), psutil.cpu_count(logical=False) or 1)


def said(code: str, *arguments: str, **environment: str) -> str:
    known = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "GLIBC_TUNABLES")}
    command = [sys.executable, "-c", f"from multifocal_jax.cli.machine import *; {code}", *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env={**known, "JAX_PLATFORMS": "cpu", **environment}
    ).stdout.strip()


@pytest.mark.parametrize(("batch", "devices"), [(2 * CORES, CORES), (1, 1)])
def test_cores_share_a_batch(batch, devices):
    assert said(f"share_cores({batch}); import jax; print(jax.device_count())") == str(devices)


def test_devices_that_are_there_or_asked_for_stay():
    started = "import jax; jax.devices(); share_cores(12); print(jax.device_count())"
    assert said(started) == "1"
    flags = "--xla_force_host_platform_device_count=3"
    assert said("share_cores(12); import jax; print(jax.device_count())", XLA_FLAGS=flags) == "3"
    assert said("share_cores(12); import jax; print(jax.device_count())", JAX_NUM_CPU_DEVICES="3") == "3"


@pytest.mark.slow  # a minute
def test_a_process_that_was_stopped_for_a_minute_goes_on():
    code = """
    from multifocal_jax.cli.machine import share_cores
    share_cores(2)
    import jax
    def step(x):  # device 0 waits for device 1
        rounds = 20_000_000 * jax.lax.axis_index("devices")
        return jax.lax.psum(jax.lax.fori_loop(0, rounds, lambda _, x: x * 0.999, x), "devices")
    print("begins", flush=True)
    for _ in range(200):
        jax.pmap(step, "devices")(jax.numpy.ones(2)).block_until_ready()
    """
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begins\n"
        time.sleep(3)
        process.send_signal(signal.SIGSTOP)
        time.sleep(60)
        process.send_signal(signal.SIGCONT)
        time.sleep(2)
        assert process.poll() is None
        process.terminate()
        assert b"rendezvous" not in process.communicate()[1]


@pytest.mark.skipif(sys.platform != "linux", reason="pages of Linux")
def test_large_pages_are_asked_for_once_in_the_same_process():
    code = "print(os.getpid(), os.environ.get('GLIBC_TUNABLES'), *sys.argv[1:], flush=True); use_large_pages()"
    lines = said(code, "-x", "a b").splitlines()
    offered = "[madvise]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    process = lines[0].split()[0]
    again = [f"{process} glibc.malloc.hugetlb=1 -x a b"] if offered else []
    assert lines == [f"{process} None -x a b", *again]
    assert said(code, GLIBC_TUNABLES="glibc.malloc.check=0").endswith("glibc.malloc.check=0")


def test_no_large_pages_elsewhere(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: "[always] madvise never")
    machine.use_large_pages()
    monkeypatch.setattr(Path, "read_text", Path("/nowhere").read_bytes)
    machine.use_large_pages()
