"""The cache folder, shared by all checkouts: each entry is complete or missing.

An entry's name ends in a hash of its recipe, so that a changed recipe makes a new entry. Entries that
have not been used for a month are removed when another of their kind is made.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vmtest.errors import VmtestError

MONTH = 30 * 24 * 3600


def folder() -> Path:
    """Return `$PWRU_CACHE`, or `pwru` in the user's cache folder."""
    if own := os.environ.get("PWRU_CACHE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # XDG base directory specification: relative paths must be ignored
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "pwru"


def entry(kind: str, recipe: object, build: Callable[[Path], None], needs_mb: int, quiet: bool = False) -> Path:
    """Return the folder of this kind and recipe; `build(folder)` fills it if it is new.

    `recipe` is everything that its content depends on, compared by its repr. A build that raises
    leaves nothing behind. Progress goes to stderr unless `quiet`.
    Raises VmtestError if less than `needs_mb` MB of disk are free, and what `build` raises.
    """
    key = hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]
    path = folder() / f"{kind}-{key}"
    if not path.is_dir():
        _make(path, kind, build, needs_mb, quiet)
    with contextlib.suppress(PermissionError):  # the cache belongs to another user
        os.utime(path)
    return path


def _make(path: Path, kind: str, build: Callable[[Path], None], needs_mb: int, quiet: bool) -> None:
    base = path.parent
    try:
        base.mkdir(parents=True, exist_ok=True)
        with _lock(base / f".{kind}.lock", kind):
            if path.is_dir():  # another run made it while this one waited
                return
            for left in base.glob(f".{kind}.tmp*"):  # from a run that was killed
                shutil.rmtree(left)
            free = shutil.disk_usage(base).free >> 20
            if free < needs_mb:
                raise VmtestError(
                    f"{base} has {free} MB free and {kind} needs {needs_mb} MB: "
                    "make room or set PWRU_CACHE to another folder"
                )
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix=f".{kind}.tmp", dir=base) as tmp:
                new = Path(tmp) / path.name
                new.mkdir()
                build(new)
                new.rename(path)
            for old in base.glob(f"{kind}-????????????"):
                if old.stat().st_mtime < time.time() - MONTH:
                    shutil.rmtree(old, ignore_errors=True)
            if not quiet:
                say(f"{kind}: {size_mb(path):.0f} MB ready in {time.monotonic() - began:.0f} s")
    except OSError as error:
        raise VmtestError(f"cannot prepare {kind} in {base}: {error}") from error


@contextlib.contextmanager
def _lock(path: Path, kind: str) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{kind}: another run is preparing it, waiting …")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def size_mb(path: Path) -> float:
    """Return the disk space of a tree, in MB (of sparse files, only the blocks that exist)."""
    return sum(p.lstat().st_blocks for p in path.rglob("*")) * 512 / 2**20


def say(line: str) -> None:
    """Report progress on stderr."""
    print(f"vmtest: {line}", file=sys.stderr, flush=True)
