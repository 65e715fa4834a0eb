"""How errors leave the command, and its exit status."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pwru import cli
from pwru.commands.options import Options
from pwru.commands.trace import End
from pwru.errors import PwruError


def test_error_is_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        raise PwruError("the moon is full; wait for a new one")

    monkeypatch.setattr("pwru.commands.trace.trace", fail)
    assert cli.main([]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "pwru: the moon is full; wait for a new one\n")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "this process may have no more files open: raise the limit"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no process or thread can be started"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "there is not enough memory"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a\nb"), "a\\x0ab: No such file or directory"),
        (OSError("somebody's own words"), "somebody's own words"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    error: OSError, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("pwru.commands.trace.trace", fail)
    assert cli.main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pwru: {says}")


@pytest.mark.parametrize("files", [6, 8, 16, 255])
@pytest.mark.parametrize("flags", [["tcp"], ["--check"]])
def test_few_files(files: int, flags: list[str]) -> None:
    """It is known before anything fails for that reason, and so in other words."""
    code = (
        "import resource, sys\n"
        "def refuse(*_): raise ValueError\n"  # as of a process without CAP_SYS_RESOURCE
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))\n"
        "resource.setrlimit = refuse\n"
        f"from pwru.cli import main; sys.exit(main({flags}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"pwru: this process may open {files} files, and needs 256: raise the limit (ulimit -n 256)\n"


def test_no_child_to_compile_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compiled by this process then."""

    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    compilers: list[object] = []

    def trace(_options: Options, _say: object, compiler: object) -> End:
        compilers.append(compiler)
        return End(complete=True)

    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr("pwru.commands.trace.trace", trace)
    before = os.listdir("/proc/self/fd")
    assert cli.main(["tcp"]) == 0
    assert compilers == [None]
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("flags", "end", "status"),
    [
        ([], End(complete=False), 0),
        (["--strict"], End(complete=False), 3),
        (["--strict"], End(complete=True), 0),
        ([], End(complete=False, status=129), 129),
        (["--strict"], End(complete=True, status=129), 129),
        (["--strict"], End(complete=False, status=129), 3),
    ],
)
def test_a_loss_is_an_error_if_strict(flags: list[str], end: End, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pwru.commands.trace.trace", lambda *_: end)
    assert cli.main(flags) == status


def test_parameters_are_named_as_flags(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In errors and in messages; all else in backticks is as it was."""

    def trace(_options: Options, say: Callable[[str], None], _compiled: object) -> End:
        say("debug: `ulimit -n 5`, or a narrower `functions`")
        raise PwruError("`modules` veth: it is not loaded; see `all_modules`, `skb`")

    monkeypatch.setattr("pwru.commands.trace.trace", trace)
    assert cli.main([]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "debug: `ulimit -n 5`, or a narrower --filter-func",
        "pwru: --kmods veth: it is not loaded; see --all-kmods, `skb`",
    ]


@pytest.mark.parametrize("works", [True, False])
def test_check(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(options: Options, flags_named: Callable[[str], str]) -> bool:
        assert options.check
        assert flags_named("`modules`, `all_modules`, `typed`") == "--kmods, --all-kmods, PCAP-FILTER"
        return works

    monkeypatch.setattr("pwru.commands.check.check", check)
    assert cli.main(["--check"]) == (0 if works else 1)


def test_without_the_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many fields can be printed is asked of the BPF object."""
    monkeypatch.setattr("pwru.live.loader.OBJECT", tmp_path / "missing")
    assert cli.main(["--output-skb-metadata=skb->mark"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pwru: ")
    assert "missing" in line
