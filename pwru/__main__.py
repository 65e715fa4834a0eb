"""`python -m pwru` is the command `pwru`."""

from pwru.cli import run

run()
