"""Exceptions that end a run of the filter."""


class UserError(Exception):
    """An error that the user can act on; its text is one sentence without the full stop."""


class Cancelled(Exception):  # noqa: N818 - not an error
    """The user cancelled the run."""
