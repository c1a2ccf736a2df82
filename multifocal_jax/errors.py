"""The base class of all errors that a user can fix."""


class UserError(ValueError):
    """Something that the user gave cannot be used. The message says in one line what, where, and how to fix it."""
