"""The error of conversions between the frameworks."""

from multifocal_jax.errors import UserError


class ConversionError(UserError):
    """Weights cannot be converted. The message names file and tensors, the problem and the fix."""
