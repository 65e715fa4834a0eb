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


def test_an_inode_that_nobody_is_in() -> None:
    assert not netns.unseen("/proc/self/ns/net")
    assert not netns.unseen(f"inode:{netns.current_netns()}")
    assert not netns.unseen(f"{netns.current_netns()}")
    assert netns.unseen("inode:1")
    assert netns.unseen("1")


@pytest.mark.parametrize("inode", ["", "x", "-1", "0", "4294967296", "0x10", "1 ", "²", "1_0", "9" * 5000])
def test_bad_inode(inode: str) -> None:
    with pytest.raises(PwruError, match="has to be a number"):
        netns.resolve_netns(f"inode:{inode}")


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


def test_a_namespace_as_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number or a name; but a file that has this name, as it always did, comes first."""
    current = netns.current_netns()
    folder = tmp_path / "named"
    folder.mkdir()
    monkeypatch.setattr(netns, "NAMED", str(folder))
    monkeypatch.chdir(tmp_path)
    for name in ("blue", "4026530000"):
        (folder / name).symlink_to("/proc/self/ns/net")
        assert netns.resolve_netns(name) == current
    assert netns.resolve_netns("4026530001") == 4026530001
    assert netns.ifindex("lo", str(current)) == netns.ifindex("lo", "blue") == netns.ifindex("lo")
    for spec in ("blue", "4026530001"):
        (tmp_path / spec).write_text("")
        with pytest.raises(PwruError, match=f"{spec} is not a network namespace"):
            netns.resolve_netns(spec)
    with pytest.raises(PwruError, match=r"402653: No such file .*; did you mean 4026530000\?"):
        netns.ifindex("lo", f"{folder}/402653")
    for spec in ("", "0", "99999999999"):
        with pytest.raises(PwruError, match="network namespace "):
            netns.resolve_netns(spec)


def test_interfaces() -> None:
    assert socket.if_indextoname(netns.ifindex("lo")) == "lo"


@pytest.mark.parametrize("name", ["lo@if3", "lo@NONE", "lo:{}", "{}", "~o:{}"])
def test_an_interface_as_it_is_printed(name: str) -> None:
    index = netns.ifindex("lo")
    assert netns.ifindex(name.format(index)) == index


@pytest.mark.parametrize("name", ["lo:99999", "99999", "~o", "~:", "~x:1", "lo:", ":1", "o:1", "@lo"])
def test_not_an_interface_as_it_is_printed(name: str) -> None:
    """The kernel itself would take lo:99999 for lo."""
    with pytest.raises(PwruError, match=f"there is no interface {name} in"):
        netns.ifindex(name)


def test_no_such_interface() -> None:
    for name in ("loo", "lo:99999"):
        with pytest.raises(PwruError, match=f"no interface {name} in this network namespace; did you mean lo"):
            netns.ifindex(name)


@pytest.mark.parametrize("name", ["", "x" * 100, "ä/b", "\udcff"])
def test_impossible_interface_names(name: str) -> None:
    with pytest.raises(PwruError, match="no interface"):
        netns.ifindex(name)


def test_no_process_in_the_namespace() -> None:
    with pytest.raises(PwruError, match="no process in network namespace inode:1,"):
        netns.ifindex("lo", "inode:1")
