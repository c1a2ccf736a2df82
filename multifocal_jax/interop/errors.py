"""What goes wrong between the frameworks, as one message for the user."""

from multifocal_jax.errors import UserError


class ConversionError(UserError):
    """Weights cannot be carried over. The message names file and tensors, the problem and the fix."""
