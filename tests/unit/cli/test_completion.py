"""What a shell offers for a command line, and that it says nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pwru.cli.candidates import CANDIDATES
from pwru.cli.completion import script
from pwru.cli.flags import FLAGS, SHELLS, Kind
from pwru.cli.options import parse
from pwru.cli.values import PROTOCOLS
from pwru.kernel import netns as namespaces
from tests.support import completion

BIN = str(Path(sys.executable).parent)


def offered(line: str) -> list[str]:
    return completion.offered(f"pwru {line}", path=BIN)


def test_every_flag() -> None:
    """But not those that are hidden, nor what has a longer name."""
    shown = {name for flag in FLAGS if not flag.hidden for name in flag.names.split() if name.startswith("--")}
    assert set(offered("--")) == shown
    assert set(offered("tcp ")) == shown | {"-r", "-w"}


def test_what_no_longer_goes() -> None:
    assert "--filter-func" not in offered("--all-kprobes --filter-")


def test_every_value_that_can_be_known() -> None:
    for flag in FLAGS:
        assert not flag.completes or flag.completes in CANDIDATES, flag.name
    known = {flag.name for flag in FLAGS if flag.completes or flag.choices}
    unknown = {flag.name for flag in FLAGS if flag.kind in (Kind.VALUE, Kind.LIST)} - known
    assert {flag.metavar for flag in FLAGS if flag.name in unknown} == {
        *("ADDR[/LEN]", "PORT", "MARK[/MASK]", "EXPR", "F", "N", "SIZE", "MB", "DAYS", "N,N", "BEGIN..END"),
        "A,B",  # fields of an skb
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        *((flag.names + " ", list(flag.choices)) for flag in FLAGS if flag.choices),
        ("--backend=k", ["kprobe-multi", "kprobe"]),  # bash takes what is after the =
        ("--backend x", []),
        ("--output-meta=", ["true", "false"]),
        ("--json --timestamp a", ["absolute"]),
        ("--json tcp --timestamp a", ["absolute"]),
        ("--json=false tcp --timestamp a", ["absolute"]),
        ("--output-payload 64 --timestamp a", ["absolute"]),
        ("--output-payload tcp --timestamp a", ["absolute"]),
        ("--filter-pid $PID --backend x --timestamp a", ["absolute"]),
        ("--proto ", PROTOCOLS.split(", ")),
        ("tcp or ud", []),
        ("--src-ip ", []),
    ],
)
def test_values(line: str, words: list[str]) -> None:
    assert offered(line) == words


def test_the_last_part_of_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "NO_SOCKET,QDISC_DROP" in offered("--filter-drop-reason NO_SOCKET,QDI")
    assert "NO_SOCKET,NO_SOCKET" not in offered("--filter-drop-reason NO_SOCKET,NO_S")
    assert "ip_rcv|ip_local_out" in offered("--filter-func 'ip_rcv|ip_local")


def test_files(tmp_path: Path) -> None:
    for name in ("trace 1.json", "trace$(x)", ".hidden", "new\nline"):
        (tmp_path / name).touch()
    (tmp_path / "traces").mkdir()
    begin = f"{tmp_path}/"
    assert sorted(offered(f"--output-file {begin}")) == [begin + n for n in ("trace 1.json", "trace$(x)", "traces/")]
    assert offered(f"--output-file={begin}.") == [f"{begin}.hidden"]
    assert offered(f"--output-file {begin}none/") == []


def test_processes() -> None:
    assert str(os.getpid()) in offered(f"--filter-pid {os.getpid()}")
    assert Path("/proc/self/comm").read_text().strip() in CANDIDATES["comms"]("", {})


def test_users() -> None:
    assert "root" in offered("--user ro")


def test_namespaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "web").touch()
    monkeypatch.setattr(namespaces, "NAMED", str(tmp_path))
    assert CANDIDATES["netns"]("", {}) == {"web": str((tmp_path / "web").stat().st_ino)}
    assert f"/proc/{os.getpid()}/ns/net" in CANDIDATES["netns"](f"/proc/{os.getpid()}/ns/n", {})
    assert "lo" in CANDIDATES["interfaces"]("", {})
    assert offered("--filter-netns /no/such --filter-ifname ") == []


def test_functions() -> None:
    """All that take a packet, or tracepoints; of the others only where it is known how they begin."""
    assert {"ip_rcv", "kfree_skbmem"} < CANDIDATES["functions"]("", {}).keys()
    assert "dst_release" not in CANDIDATES["functions"]("", {})
    assert offered("--backend tracepoint --filter-func kfree_") == ["kfree_skb"]
    assert "ip_rcv" in offered("--kmods no,such --filter-func ip_rc")
    assert "dst_release" in CANDIDATES["all_functions"]("dst_", {})
    assert not CANDIDATES["all_functions"]("d", {})


def test_flags_before_the_cursor_are_known() -> None:
    code = """
import os
from pwru.cli.candidates import CANDIDATES
from pwru.cli.completion import complete
CANDIDATES["functions"] = lambda _, given: {f"{given['--kmods']} {given['--filter-netns']}": ""}
os.dup2(1, 8)
complete()
"""
    line = "pwru --kmods a,b --filter-netns web --kmods c --filter-func "
    environment = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.replace("\\", "").strip() == "['a', 'b', 'c'] web"


@pytest.mark.parametrize("shell", SHELLS)
def test_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parse([f"--completion={shell}"]).completion == shell
    done = subprocess.run(
        [f"{BIN}/pwru", "--completion", shell], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    assert (done.stdout, done.stderr) == (script(shell), "")
    if shell == "zsh":
        assert done.stdout.startswith("#compdef pwru\n")  # on the first line, for compinit


def test_a_descriptor_that_is_not_open() -> None:
    """Then there is nothing to say and nothing is traced."""
    environment = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": "pwru --", "COMP_POINT": "7"}
    done = subprocess.run([f"{BIN}/pwru"], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_a_trace_does_not_load_it() -> None:
    code = "import sys, pwru.cli; from pwru.cli.options import parse; parse(['tcp']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pwru.cli.parser" in loaded
    assert not {"argcomplete", "pwru.cli.completion", "pwru.cli.candidates"} & set(loaded)
