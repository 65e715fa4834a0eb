"""A child lives until it is released, or until this process ends; it leaves no zombie and no descriptor."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pwru.live.backends.child import start, takes_all_along


def wait_for_pipe(read_end: int) -> None:
    assert os.read(read_end, 1) == b""


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_ends_when_it_is_released() -> None:
    before = os.listdir("/proc/self/fd")
    child = start(wait_for_pipe)
    time.sleep(0.05)
    assert Path(f"/proc/{child.pid}").exists()
    child.release()
    wait_until_gone(child.pid)
    assert os.listdir("/proc/self/fd") == before


def test_it_ends_with_its_parent() -> None:
    read_end, write_end = os.pipe()
    parent = os.fork()
    if not parent:
        try:
            os.write(write_end, str(start(wait_for_pipe).pid).encode())
        finally:
            os._exit(0)
    os.waitpid(parent, 0)
    child = int(os.read(read_end, 16))
    for fd in (read_end, write_end):
        os.close(fd)
    # This process may be what adopts it.
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_leaves_the_session_and_has_no_other_descriptor() -> None:
    """A terminal does not end it, and nobody waits for it who waits for the end of what this process writes."""
    (reader, writer), (ready, kept) = os.pipe(), os.pipe()

    def work(read_end: int) -> None:
        os.write(kept, b"x")
        os.read(read_end, 1)

    child = start(work, [kept])
    os.close(writer)
    assert (os.read(reader, 1), os.read(ready, 1)) == (b"", b"x")
    links = {int(name): os.readlink(f"/proc/{child.pid}/fd/{name}") for name in os.listdir(f"/proc/{child.pid}/fd")}
    pipes = [os.readlink(f"/proc/self/fd/{fd}") for fd in (child.pipe, kept)]
    assert sorted(links.values()) == sorted([*[os.devnull] * 3, *pipes])
    assert os.getsid(child.pid) == child.pid
    child.release()
    for fd in (reader, ready, kept):
        os.close(fd)


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [
        ("0::/user.slice/session-1.scope", "0::/user.slice/session-1.scope", False),
        ("0::/", "0::/../..", True),  # of a container with the host's PIDs, as it sees them
        ("0::/system.slice/pwru.service", "0::/init.scope", True),
        ("0::/", None, False),  # `docker exec`: the parent is outside, and the container goes on
    ],
)
def test_it_would_be_killed_with_a_container(own: str, parent: str | None, expected: bool, tmp_path: Path) -> None:
    for name, cgroup in (("self", own), (str(os.getppid()), parent)):
        (tmp_path / name).mkdir()
        if cgroup is not None:
            (tmp_path / name / "cgroup").write_text(f"{cgroup}\n")
    assert takes_all_along(str(tmp_path)) is expected
