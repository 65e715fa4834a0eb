"""A start that fails leaves nothing behind: no file, no descriptor, no signal handler."""

from __future__ import annotations

import fcntl
import os
import re
import signal
from pathlib import Path

import pytest

from pwru.commands.options import Options
from pwru.commands.trace import trace
from pwru.errors import PwruError
from pwru.live.request import Request

# Nothing matches; without privileges the start fails sooner.
FAILS = Options(request=Request(functions="no_such_function_anywhere"))


def descriptors() -> dict[str, str]:
    """Return what is open, without what lists it."""
    folder = "/proc/self/fd"
    return {fd: os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder) if os.path.exists(f"{folder}/{fd}")}


def failing(options: Options) -> str:
    """Return the error of a start, which leaves the process as it was."""
    before, handlers = descriptors(), [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    try:
        trace(options, lambda _: None)
    except PwruError as error:
        message = str(error)
    else:
        pytest.fail("it started")
    assert descriptors() == before
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    return message


def test_no_output_file_is_created(tmp_path: Path) -> None:
    failing(FAILS._replace(output_file=str(tmp_path / "trace.log"), output_file_compress=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parameter", "options"),
    [
        ("output_file", FAILS._replace(output_file="name")),
        ("write", FAILS._replace(write="name")),
        ("output_pcap", FAILS._replace(output_pcap="name")),
        ("report", FAILS._replace(report="name")),
        ("ready_file", FAILS._replace(ready_file="name")),
    ],
)
def test_in_a_directory_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameter: str, options: Options
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    message = f"`{parameter}`: cannot (write|create) name: No such file or directory"
    assert re.fullmatch(message, failing(options))


def test_an_output_file_is_closed_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "trace.log"
    path.write_text("before\n")
    failing(FAILS._replace(output_file=str(path)))
    assert path.read_text() == "before\n"
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_cannot_be_written_is_known_early(tmp_path: Path) -> None:
    """Before anything about the kernel, and however wrong that is."""
    path = tmp_path / "absent" / "out"
    assert failing(FAILS._replace(output_file=str(path))) == (
        f"`output_file`: cannot write {path}: No such file or directory"
    )
    assert failing(FAILS._replace(ready_file=str(path))) == (
        f"`ready_file`: cannot create {path}: No such file or directory"
    )
    assert failing(FAILS._replace(output_file="")) == "`output_file`: cannot write '': No such file or directory"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for name, reason in ((str(pipe), "File exists"), ("/dev/full", "File exists"), ("", "No such file or directory")):
        message = f"`ready_file`: cannot create {name or repr('')}: {reason}"
        assert failing(FAILS._replace(ready_file=name)) == message
    own = tmp_path / "trace.log"
    with own.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        message = f"`output_file`: another process writes to {own}; name another file"
        assert failing(FAILS._replace(output_file=str(own))) == message
    failing(FAILS._replace(output_file=str(own), ready_file=str(path)))
    with own.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_an_output_file_needs_no_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert "standard output is closed" in failing(FAILS)
    assert "standard output" not in failing(FAILS._replace(output_file=str(tmp_path / "trace.log")))
