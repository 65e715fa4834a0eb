"""The one exception that reaches the user as a line of text instead of a traceback."""


class PwruError(Exception):
    """What is wrong and what to do about it, in one line; the command prints it and exits 1."""
