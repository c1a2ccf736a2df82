"""PyTorch is an extra of the package: one message where it is missing."""

from multifocal_jax.interop.errors import ConversionError


def require_torch(what: str, instead: str = "") -> None:
    """Check that PyTorch can be imported.

    Args:
        what: needs it, the subject of the message.
        instead: a way without it.

    Raises:
        ConversionError: it is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        way_out = f", or {instead}" if instead else ""
        raise ConversionError(f"{what} needs PyTorch: pip install '.[torch]'{way_out}") from None
