"""PyTorch is an optional extra: one message if it is missing."""

from multifocal_jax.interop.errors import ConversionError


def require_torch(what: str, instead: str = "") -> None:
    """Check that PyTorch can be imported.

    Args:
        what: what needs it, the subject of the message.
        instead: an alternative without it.

    Raises:
        ConversionError: it is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        alternative = f", or {instead}" if instead else ""
        raise ConversionError(f"{what} needs PyTorch: pip install '.[torch]'{alternative}") from None
