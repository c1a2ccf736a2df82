"""The error line for a `JAX_PLATFORMS` that names a missing platform."""

import difflib
import os
import sys
from importlib.util import find_spec

_PLATFORMS = ("cpu", "cuda", "gpu", "rocm", "tpu")  # as JAX calls them
_EXTRAS = {"cuda": "cuda", "gpu": "cuda", "tpu": "tpu"}
_PLUGINS = {"cuda": ("jax_cuda12_plugin", "jax_cuda13_plugin"), "tpu": ("libtpu",)}  # what the extras install


def missing_platform(error: Exception) -> str | None:
    """The message if an error means that JAX cannot start on the platform that the environment names; else None.

    JAX is then started on the available platforms, to list them.
    """
    asked = os.environ.get("JAX_PLATFORMS")
    speaks = isinstance(error, AssertionError) or "backend" in str(error)  # as JAX does, partly without a word
    if not asked or not speaks or "jax" not in sys.modules:
        return None
    import jax

    try:
        jax.devices()
        return None
    except Exception as again:
        reason = " ".join(str(again).split())
    jax.config.update("jax_platforms", None)
    found = sorted({"cpu", *(device.platform for device in jax.devices())})
    return f"JAX_PLATFORMS is {asked!r}, but this installation has {' and '.join(found)} only{_advice(asked, reason)}"


def _advice(asked: str, reason: str) -> str:
    for name in asked.lower().split(","):
        meant = next(iter(difflib.get_close_matches(name, _PLATFORMS, 1)), "")
        extra = _EXTRAS.get(meant)
        slip = f"; did you mean {meant!r}?" if meant and meant != name else ""
        if extra and not any(map(find_spec, _PLUGINS[extra])):
            brings = f"he extra {extra} brings it: pip install 'multifocal-jax[{extra}]'"
            return f"{slip} T{brings}" if slip else f"; t{brings}"
        if slip:
            return slip
        if extra:
            return f"; the extra {extra} is installed, but finds no device" + (f" ({reason})" if reason else "")
    return ""
