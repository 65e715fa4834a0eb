"""Network namespaces and interfaces, as far as they can be had without root; the rest is in tests/kernel."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.kernel import netns


def test_current() -> None:
    assert f"net:[{netns.current_netns()}]" == os.readlink("/proc/self/ns/net")


def test_by_path_and_inode() -> None:
    assert netns.resolve_netns("/proc/self/ns/net") == netns.current_netns()
    assert netns.resolve_netns(f"/proc/{os.getpid()}/ns/net") == netns.current_netns()
    assert netns.resolve_netns("inode:4026531840") == 4026531840


@pytest.mark.parametrize(
    "spec", ["inode:", "inode:x", "inode:-1", "inode:0", "inode:4294967296", "inode:0x10", "inode:1 ", "inode:²"]
)
def test_bad_inode(spec: str) -> None:
    with pytest.raises(PwruError, match="has to be a number"):
        netns.resolve_netns(spec)


def test_what_is_no_namespace(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (str(file), str(fifo), str(tmp_path), "/proc/self/ns/mnt", "/dev/null"):
        with pytest.raises(PwruError, match=f"{path} is not a network namespace"):
            netns.resolve_netns(path)
    with pytest.raises(PwruError, match="absent: No such file"):
        netns.resolve_netns(str(tmp_path / "absent"))


def test_a_name_instead_of_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blue").write_text("")
    monkeypatch.setattr(netns, "NAMED", str(tmp_path))
    with pytest.raises(PwruError, match=f"did you mean {tmp_path}/blue"):
        netns.resolve_netns("blue")


def test_interfaces() -> None:
    assert socket.if_indextoname(netns.ifindex("lo")) == "lo"


def test_no_such_interface() -> None:
    with pytest.raises(PwruError, match="no interface loo in this network namespace; did you mean lo"):
        netns.ifindex("loo")


@pytest.mark.parametrize("name", ["", "x" * 100, "ä/b", "\udcff"])
def test_impossible_interface_names(name: str) -> None:
    with pytest.raises(PwruError, match="no interface"):
        netns.ifindex(name)


def test_no_process_in_the_namespace() -> None:
    with pytest.raises(PwruError, match="no process in network namespace inode:1,"):
        netns.ifindex("lo", "inode:1")
