"""The exception of the harness; command lines print it as one line, without a traceback."""


class VmtestError(Exception):
    """Something that the harness needs is missing, or a command of its own failed; the message says what."""
