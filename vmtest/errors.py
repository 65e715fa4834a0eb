"""What the harness reports to whoever called it: one line, no traceback."""


class VmtestError(Exception):
    """Something that the harness needs is missing, or a command of its own failed; the message says what."""
