"""What reaches the user as a line of text instead of a traceback, and what makes text fit for that."""


class PwruError(Exception):
    """What is wrong and what to do about it, in one line; the command prints it and exits 1."""


def printable(text: str) -> str:
    """Text that is safe on a terminal and stays on its line: control characters become `\\xNN`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
