"""Output files: a trace that continues in the next file loses nothing."""

from __future__ import annotations

import gzip
import re
import signal
import stat
from pathlib import Path

import pytest

from vmtest.network import Network, sh
from vmtest.udp import send_udp

from .tracing import LINE, Start, Trace

pytestmark = pytest.mark.one_kernel

FILTER = ("udp and dst port 9999",)


def test_logrotate(network: Network, pwru: Start, tmp_path: Path) -> None:
    """The file is moved away, and SIGHUP sent: nothing is lost or written twice."""
    path, moved = tmp_path / "trace.log", tmp_path / "trace.log.1"
    with pwru(f"--output-file={path}", "--filter-func=udp_rcv", *FILTER) as trace:
        send_udp(network, 5)
        trace.wait_for(lambda: len(path.read_text().splitlines()) == 6)
        path.rename(moved)
        trace.process.send_signal(signal.SIGHUP)
        trace.wait_for(path.exists)
        send_udp(network, 7)
        trace.wait_for(lambda: len(path.read_text().splitlines()) == 8)
        assert trace.stop() == 0
    for file in (path, moved):
        assert file.read_text().startswith("SKB ")
    assert len(moved.read_text().splitlines()) == 6
    assert trace.totals() == (12, 0)


@pytest.mark.parametrize("to", ["--output-file", "stdout"])
def test_a_full_disk(network: Network, pwru: Start, tmp_path: Path, to: str) -> None:
    """The account says what was not written, the file ends with a whole line, and the next trace begins a new one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    path = disk / "trace.log"
    sh("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk))
    try:
        run = ("bash", "-c", f'exec "$@" >{path}', "bash") if to == "stdout" else ()
        file = () if run else (f"--output-file={path}",)
        flags = (*file, "--filter-func=udp_rcv|ip_rcv|__ip_local_out", *FILTER)
        with Trace(tmp_path, flags, launcher=run) as trace:
            while trace.process.poll() is None:
                send_udp(network, 100)
        assert trace.process.returncode == 1
        *_, account, error = trace.err.splitlines()
        named = path if not run else "standard output"
        assert error == f"pwru: cannot write to {named}: No space left on device"
        header, *lines = path.read_text().splitlines(keepends=True)
        assert header.startswith("SKB ")
        assert all(LINE.fullmatch(line.removesuffix("\n")) and line.endswith("\n") for line in lines)
        counted = re.match(r"(\d+) events of .*, (\d+) not printed \(the output could not", account)
        assert counted, account
        assert int(counted[1]) == len(lines)
        assert int(counted[2]) > 0
    finally:
        sh("umount", str(disk))


@pytest.mark.one_kernel
@pytest.mark.parametrize("json", [False, True], ids=["text", "json"])
def test_rotation(network: Network, pwru: Start, tmp_path: Path, json: bool) -> None:
    """Each line is complete in one of the files, and their number is that of the account."""
    path = tmp_path / "trace.log"
    flags = [f"--output-file={path}", "--output-file-max-size=1", "--output-file-compress", f"--output-json={json}"]
    with pwru(*flags, *FILTER) as trace:
        while len(list(tmp_path.glob("trace-*"))) < 2:
            send_udp(network, 200)
        assert trace.stop() == 0
    assert trace.out == ""
    files = [*sorted(tmp_path.glob("trace-*")), path]
    lines = []
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert (file.suffix == ".gz") == (file != path)
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        assert len(data) <= 1 << 20
        header, *rest = data.decode().splitlines() if not json else ("", *data.decode().splitlines())
        assert json or header.startswith("SKB ")
        lines += rest
    for line in lines:
        assert line.startswith('{"skb"') and line.endswith("}") if json else LINE.fullmatch(line), line
    printed, lost = trace.totals()
    assert len(lines) == printed
    assert not lost
