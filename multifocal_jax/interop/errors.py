"""What goes wrong between the frameworks, as one message for the user."""


class ConversionError(ValueError):
    """Weights cannot be carried over. The message names file and tensors, says what is wrong and the way out."""
