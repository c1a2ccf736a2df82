"""The base of all errors that a user can mend."""


class UserError(ValueError):
    """Something that the user gave cannot be used. The message says in one line what, where, and the way out."""
