"""Modules that are loaded meanwhile: what a uevent of the kernel leads to."""

from __future__ import annotations

import select
import socket
from contextlib import closing

import pytest

from pwru.live import watch
from pwru.live.watch import Watch


def send(uevent: bytes) -> None:
    """Send a uevent as the kernel does; that takes CAP_NET_ADMIN."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as sender:
        try:
            sender.sendto(uevent, (0, 1))
        except PermissionError:
            pytest.skip("no uevent can be sent")
        except OSError:
            pass  # the kernel itself takes none, but whoever listens has it


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Modules and their inodes, to be changed by a test."""
    modules = {"veth": 1, "bridge": 2}
    monkeypatch.setattr(watch, "loaded", lambda: dict(modules))
    return modules


def test_nothing_is_noticed_without_a_uevent(loaded: dict[str, int]) -> None:
    with closing(Watch()) as modules:
        assert modules.modules == loaded
        assert not modules.notified()


def test_what_came_and_went(loaded: dict[str, int]) -> None:
    with closing(Watch()) as modules:
        loaded.update(vxlan=3, bridge=4)  # the second one was loaded again
        del loaded["veth"]
        for uevent in (b"remove@/module/veth\0", b"add@/module/vxlan\0", b"add@/module/dummy\0"):
            send(uevent)
        assert select.select([modules.fd], [], [], 10)[0]
        assert modules.notified()
        assert not select.select([modules.fd], [], [], 0)[0]
        assert not modules.notified()
        changes = modules.changes()
        assert changes == modules.changes() == (loaded, {"bridge": 4, "vxlan": 3}, {"veth": 1, "bridge": 2}, ["dummy"])
        modules.accept(changes)
        assert modules.changes() == (loaded, {}, {}, [])


def test_other_uevents(loaded: dict[str, int]) -> None:
    with closing(Watch()) as modules:
        for uevent in (b"add@/devices/virtual/net/veth0\0", b"change@/module/veth\0", b"add@/module/\xff"):
            send(uevent)
        assert select.select([modules.fd], [], [], 10)[0]
        assert not modules.notified()


def test_it_closes_its_socket(loaded: dict[str, int]) -> None:
    with closing(Watch()) as modules:
        assert modules.fd >= 0
    assert modules.fd == -1
