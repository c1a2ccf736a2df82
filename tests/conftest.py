"""Shared by all tests: virtual devices, shape checks, no state left in the user's home."""

import os

# Several devices in every session, so that sharding is always exercised. Must precede the import of JAX.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jaxtyping

# Check shapes and dtypes in signatures while testing; users do not pay for it.
jaxtyping.install_import_hook(["multifocal_jax.ops", "multifocal_jax.models"], "beartype.beartype")
