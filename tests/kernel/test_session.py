"""A trace inside a process that goes on living, as a library runs it: no child process, and nothing left behind."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from pwru.live.request import Request
from pwru.live.session import Session

from .backends import BACKENDS
from .leftovers import traces, wait_for
from .refusals import OBJECT

pytestmark = [pytest.mark.two_kernels, pytest.mark.usefixtures("nothing_left")]


def descriptors() -> list[str]:
    """The open files of this process, without the one that lists them."""
    links = (path for path in Path("/proc/self/fd").iterdir() if path.exists())
    return sorted(os.readlink(path) for path in links)


def children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_leave_to_fork_nothing_is_left_and_nothing_is_forked(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden() -> int:
        raise AssertionError("forked")

    functions = None if backend == "tracepoint" else "ip_rcv|icmp_rcv"
    before = traces()
    gc.collect()  # what other tests have left open would be closed at some moment
    monkeypatch.setattr(os, "fork", forbidden)
    for _ in range(2):  # what is opened once in a process is open after the first
        opened = descriptors()
        with Session(Request(backend=backend, functions=functions), image=OBJECT.read_bytes()) as session:
            assert session.backend.attached
            assert traces() != before
        wait_for(lambda: traces() == before)  # the kernel frees maps and programs a little later
        assert children() == ""
    assert descriptors() == opened
