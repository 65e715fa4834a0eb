"""What a shell offers for values of flags is what this kernel has, for root and, as far as it may know, for anybody."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pwru.kernel import modules
from tests.support.completion import offered
from vmtest.network import Network

from .tracing import Start, fails

pytestmark = pytest.mark.one_kernel

HOSTILE = "$(id>x);'"  # 15 bytes at most, and neither spaces nor slashes
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
WHO = pytest.mark.parametrize("who", [(), NOBODY], ids=["root", "nobody"])


@pytest.fixture
def interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o777)
    subprocess.run(["ip", "link", "add", HOSTILE, "type", "dummy"], check=True)
    yield HOSTILE
    subprocess.run(["ip", "link", "del", HOSTILE], check=True)


@WHO
def test_interfaces(who: tuple[str, ...], interface: str, tmp_path: Path) -> None:
    """One with a name that a shell would run is a word as any other."""
    assert {"lo", interface} <= set(offered("pwru --filter-ifname ", before=who))
    assert not list(tmp_path.iterdir())


@WHO
def test_namespaces(who: tuple[str, ...], network: Network) -> None:
    """Nobody may look into them."""
    assert {network.client, network.server} <= set(offered("pwru --filter-netns ", before=who))
    there = offered(f"pwru --filter-netns {network.server} --filter-ifname ", before=who)
    assert there == ([] if who else ["lo", "v1"])


@WHO
def test_modules(who: tuple[str, ...], network: Network) -> None:
    names = offered("pwru --kmods ", before=who)
    assert "veth" in names
    assert not modules.without_btf(names)


@WHO
def test_drop_reasons(who: tuple[str, ...]) -> None:
    reasons = offered("pwru --filter-drop-reason ", before=who)
    assert {"NO_SOCKET", "any"} < set(reasons)
    assert "no 'NO_SUCH'" in fails("--filter-drop-reason=NO_SUCH")  # the message for what is not among them


@WHO
def test_functions(who: tuple[str, ...], pwru: Start, network: Network) -> None:
    """After a trace by root, what can be traced, and nothing else; anybody else gets all that take a packet.

    Those of a module, veth, if it is named.
    """
    with pwru("--filter-func=ip_rcv") as trace:
        trace.stop()
    names = offered("pwru --filter-func ", before=who)
    assert {"ip_rcv", "kfree_skbmem"} < set(names)
    assert len(names) > 1000
    assert "veth_xmit" not in offered("pwru --filter-func veth_x", before=who)
    assert "veth_xmit" in offered("pwru --kmods bridge,veth --filter-func veth_x", before=who)
    if not who:
        with pwru(f"--filter-func={'|'.join(names[::40])}") as trace:
            trace.stop()
        assert "Not traced" not in trace.err


def test_processes() -> None:
    assert str(os.getpid()) in offered(f"pwru --filter-pid {str(os.getpid())[:1]}")
