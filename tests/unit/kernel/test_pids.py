"""Processes by PID."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.kernel.pids import Process, find


def test_a_process_of_the_initial_namespace() -> None:
    assert find(os.getpid()) == Process(os.getpid())
    assert find(1) == Process(1)


def test_a_process_that_has_gone() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    with pytest.raises(PwruError, match=f"^`pid`: there is no process {process.pid}$"):
        find(process.pid)


def test_a_thread() -> None:
    done, ids = threading.Event(), list[int]()
    started = threading.Event()

    def run() -> None:
        ids.append(threading.get_native_id())
        started.set()
        done.wait()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        with pytest.raises(PwruError, match=f"^`pid`: {ids[0]} is a thread of process {os.getpid()}; give "):
            find(ids[0])
    finally:
        done.set()
        thread.join()


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """A /proc of another PID namespace than the initial one."""
    for pid in ("self", "5"):
        (tmp_path / pid / "ns").mkdir(parents=True)
        (tmp_path / pid / "ns" / "pid").touch()
    return tmp_path


@pytest.mark.parametrize(("numbers", "own"), [("5", 5), ("5 2", 2), ("5 9 1", 1)])
def test_in_a_container(container: Path, numbers: str, own: int) -> None:
    (container / "5" / "status").write_text(f"Name:\ta:b\nTgid:\t5\nNSpid:\t{numbers}\n")
    namespace = (container / "5" / "ns" / "pid").stat()
    device = os.major(namespace.st_dev) << 20 | os.minor(namespace.st_dev)
    assert find(5, str(container)) == Process(own, device, namespace.st_ino)


def test_a_namespace_that_cannot_be_seen(container: Path) -> None:
    (container / "5" / "status").write_text("Tgid:\t5\nNSpid:\t5\n")
    (container / "5" / "ns" / "pid").unlink()
    with pytest.raises(PwruError, match=r"^`pid`: the PID namespace of process 5: No such file or directory$"):
        find(5, str(container))


def test_without_namespaces(container: Path) -> None:
    (container / "self" / "ns" / "pid").unlink()
    (container / "5" / "status").write_text("Tgid:\t5\n")
    assert find(5, str(container)) == Process(5)


def test_a_pid_that_only_the_host_has(container: Path) -> None:
    """PROCESS shows those."""
    with pytest.raises(PwruError, match=r"^`pid`: there is no process 6 in this container, whose PIDs are not the"):
        find(6, str(container))
