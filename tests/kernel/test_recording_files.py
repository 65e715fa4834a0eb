"""Recordings as files: killed, on a full disk, moved away, in many files, through pipes, in the hands of others."""

from __future__ import annotations

import os
import pwd
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from vmtest.network import Network, sh
from vmtest.udp import Udp, send_udp

from .leftovers import PATIENCE, wait_for
from .recording import read, recorded
from .tracing import Start, Trace, fails

pytestmark = pytest.mark.one_kernel

ONE = ("--filter-func=udp_rcv", "udp and dst port 9999")  # an event per datagram


def test_killed(udp: Udp, pwru: Start, tmp_path: Path) -> None:
    """What came is in the file a second later, whatever becomes of pwru, also if nothing more comes."""
    path = tmp_path / "x"
    with pwru(f"-w{path}", *ONE) as trace:
        udp.send(5)
        trace.wait_for(lambda: recorded(path) == 5)
        udp.send(2)
        trace.wait_for(lambda: recorded(path) == 7)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        trace.process.kill()
        trace.process.wait()
    again = read(path, status=1)
    assert len(again.events) == 7
    assert again.err[-1].startswith(f"pwru: {path} ends without an account: ")


def test_a_full_disk(network: Network, udp: Udp, tmp_path: Path) -> None:
    """The trace ends with an account of what is in the file, which can be read."""
    disk = tmp_path / "disk"
    disk.mkdir()
    path = disk / "x"
    sh("mount", "-t", "tmpfs", "-o", "size=512k", "none", str(disk))
    try:
        with Trace(tmp_path, (f"-w{path}", "--output-skb", *ONE)) as trace:
            while trace.process.poll() is None:
                udp.send(100)
        assert trace.process.returncode == 1
        *_, account, error = trace.err.splitlines()
        assert error == f"pwru: cannot write to {path}: No space left on device"
        counted = re.match(r"(\d+) events of .*, \d+ not printed \(the output could not", account)
        assert counted, account
        again = read(path, status=1)
        assert int(counted[1]) == len(again.events) > 0
        assert again.err[-1].endswith("was killed, or could not write more")
    finally:
        sh("umount", str(disk))


def test_logrotate(udp: Udp, pwru: Start, tmp_path: Path) -> None:
    path, moved = tmp_path / "x.pwru", tmp_path / "x.1.pwru"
    with pwru(f"-w{path}", *ONE) as trace:
        udp.send(5)
        path.rename(moved)
        trace.process.send_signal(signal.SIGHUP)
        trace.wait_for(path.exists)
        udp.send(7)
        assert trace.stop() == 0
    assert recorded(moved) + recorded(path) == 12
    again = read(tmp_path / "x*.pwru")
    assert len(again.events) == 12
    assert again.err[-1] == trace.err.splitlines()[-1]
    times = [line.split()[3] for line in read(tmp_path / "x*.pwru", "--timestamp=current").events]
    assert times == sorted(times)


def test_rotation(udp: Udp, pwru: Start, tmp_path: Path) -> None:
    """Each file can be read alone, all of them as one."""
    path = tmp_path / "x.pwru"
    copies = ("--output-skb", "--output-skb-shared-info", "--output-payload=1024")
    with pwru(f"-w{path}", "--output-file-max-size=1", *copies, *ONE) as trace:
        while len(list(tmp_path.glob("x-*"))) < 2:
            udp.send(500, 1000)
        assert trace.stop() == 0
    files = sorted(tmp_path.glob("x*.pwru"))
    assert all(file.stat().st_size <= 1 << 20 for file in files)
    assert sum(map(recorded, files)) == trace.totals()[0]  # others may be lost, and are counted
    assert len(read(files[0]).events) == recorded(files[0])
    assert read(tmp_path / "x*.pwru").err[-1] == trace.err.splitlines()[-1]
    assert read(tmp_path / "x*.pwru", "--filter-func=none").events == []


def test_through_a_pipe(network: Network, tmp_path: Path) -> None:
    err = tmp_path / "err"
    line = f"pwru -w- --output-limit-lines=5 {ONE[0]} '{ONE[1]}' | pwru -r-"
    with err.open("wb") as file, subprocess.Popen(["bash", "-c", line], stdout=subprocess.PIPE, stderr=file) as both:
        wait_for(lambda: "Listening" in err.read_text())
        send_udp(network, 5)
        out, _ = both.communicate(timeout=PATIENCE)
    assert both.returncode == 0, err.read_text()
    assert len(out.decode().splitlines()) == 6
    assert err.read_text().count("5 events of 5 packets, 0 lost") == 2


def test_without_root(udp: Udp, pwru: Start, folder: Path) -> None:
    path, nobody = folder / "x", pwd.getpwnam("nobody")
    with pwru(f"-w{path}", "--print", "--output-stack", *ONE) as trace:
        udp.send(3)
        assert trace.stop() == 0
    os.chown(path, nobody.pw_uid, nobody.pw_gid)
    again = read(path, "--output-stack", user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
    assert again.out == trace.out.splitlines()


def test_where_nothing_can_be_recorded(pwru: Start, tmp_path: Path) -> None:
    assert fails("-w", str(tmp_path)) == f"pwru: -w: cannot write {tmp_path}: Is a directory"
    path = tmp_path / "x"
    with pwru(f"-w{path}", *ONE):
        assert fails(f"-w{path}", *ONE) == f"pwru: -w: another process writes to {path}; name another file"
    assert "is the recording that is read" in fails(f"-r{path}", f"-w{path}")
    terminal, there = os.openpty()
    done = subprocess.run(["pwru", "-w-", *ONE], stdout=there, stderr=subprocess.PIPE, text=True, check=False)
    os.close(there)
    os.close(terminal)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("pwru: a recording is not for a terminal: ")
