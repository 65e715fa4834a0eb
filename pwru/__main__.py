"""The command `pwru`, also as `python -m pwru`."""

import signal

# Ctrl-C ends the process like any other until tracing begins: a traceback out of an import helps nobody.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from pwru.cli import run  # noqa: E402

if __name__ == "__main__":
    run()
