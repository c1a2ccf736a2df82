"""Shared by all tests: virtual devices, shape checks, the torch-less mode."""

import os
import signal
from pathlib import Path

# Several devices in every session, so that sharding is always exercised. Must precede the import of JAX.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"  # that a shape is repeated along new axes is written out
os.environ["MULTIFOCAL_CACHE"] = "off"  # tests neither read nor fill the user's folder of compiled programs
# What one test has compiled serves the others, of both workers, and later runs.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(2**31))  # with a limit JAX locks the folder, too
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import jaxtyping
import numpy as np
import pytest

# A shell that runs a script in the background ignores Ctrl-C in it, and processes that tests start would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Check shapes and dtypes in signatures while testing; users do not pay for it.
jaxtyping.install_import_hook(
    ["multifocal_jax.ops", "multifocal_jax.models", "multifocal_jax.fast"], "beartype.beartype"
)

if os.environ.get("MULTIFOCAL_NO_TORCH"):
    # Where no CPU build of torch is to be had, golden fixtures that PyTorch made stand in.
    collect_ignore_glob = ["**/test_torch_*.py"]


@pytest.fixture
def rng():
    """Random numbers, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def unoptimised():
    """Compile quickly instead of well, in the processes that a test starts, too: for tests of what is around."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)
