"""What reaches the user as a line of text instead of a traceback, and what makes text fit for that."""

import errno
from collections.abc import Iterable, Sequence

_LONGEST = 100  # characters: nobody means a name with something longer, and to compare it takes long


class PwruError(Exception):
    """One line that says what is wrong and what to do about it; the command prints it and exits with 1.

    Names of parameters stand in backticks (`functions`), as the Python API has them; the command line, which has the
    names of the flags, puts these in their place.
    """


# What to do about a refusal that may come anywhere.
_HINTS = {
    errno.EMFILE: "this process may have no more files open: raise the limit (ulimit -n 1024)",
    errno.ENFILE: "this machine may have no more files open: see the sysctl fs.file-max",
    errno.EAGAIN: "no process or thread can be started: see ulimit -u, and pids.max of the cgroup",
    errno.ENOMEM: "there is not enough memory",
}


def explain(error: OSError) -> str:
    """Return a line for a refusal of the system that nobody expected where it came."""
    if hint := _HINTS.get(error.errno or 0):
        return hint
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}"


def printable(text: str) -> str:
    """Return text that is safe on a terminal and stays on its line: control characters become `\\xNN`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def abbreviate(names: Sequence[str]) -> str:
    """Return the first three names, and an ellipsis if there are more."""
    return ", ".join(names[:3]) + ", …" * (len(names) > 3)


def near(word: str, words: Iterable[str], cutoff: float = 0.6) -> str:
    """Return a question that names the closest of `words` ("did you mean a, b or c?"), or "" if none is close."""
    if len(word) > _LONGEST:
        return ""
    from difflib import get_close_matches

    return did_you_mean(get_close_matches(word, list(words), n=3, cutoff=cutoff))


def did_you_mean(words: Sequence[str]) -> str:
    """Return the question for words that are known to be close; "" for none."""
    *others, last = words or [""]
    return f"did you mean {', '.join(others)}{' or ' * bool(others)}{last}?" if last else ""
