"""A later start on a kernel: its cached facts are what it would find, and it traces the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pwru.kernel.facts import FOLDER, Facts
from pwru.kernel.kallsyms import Kallsyms
from pwru.kernel.kernel import Kernel
from pwru.kernel.places import Places
from vmtest.network import Network

from .backends import without_functions
from .tracing import Start, funcs

pytestmark = pytest.mark.three_kernels


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    def forget() -> None:
        for path in Path(FOLDER).glob("*"):
            path.unlink()

    forget()
    yield
    forget()


def file() -> Path:
    (path,) = Path(FOLDER).iterdir()
    return path


def ping(start: Start, network: Network, *flags: str) -> tuple[list[str], str]:
    """The functions in which a ping was seen, and the line that says how many were attached."""
    with start("--filter-func=(ip|icmp)_.*", *flags, "icmp") as trace:
        network.ping()
        trace.wait_for_func(r"\bicmp_rcv\b")
        trace.stop()
    return funcs(trace), next(line for line in trace.err.splitlines() if line.startswith("Attached"))


@without_functions
def test_remembered_or_found_is_the_same(pwru: Start, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def found_again(*_: object) -> None:
        pytest.fail("it was found again")

    first = ping(pwru, network)
    written = file().stat().st_mtime_ns
    assert ping(pwru, network) == first
    assert file().stat().st_mtime_ns == written, "it was found again"
    fresh = Places(Kernel())
    remembering = Places(Kernel(remember=True))
    assert fresh.functions
    monkeypatch.setattr("pwru.kernel.btf.vmlinux_btf", found_again)
    monkeypatch.setattr(Kallsyms, "read", found_again)
    assert remembering.functions == fresh.functions
    assert remembering.left_out == fresh.left_out


@without_functions
@pytest.mark.one_kernel
def test_it_was_really_remembered(pwru: Start, network: Network) -> None:
    """A function that is removed from the cache is not attached to."""
    seen, _ = ping(pwru, network)
    assert "icmp_rcv" in seen
    facts = Facts()
    targets, skipped = facts.get("functions")
    facts.set("functions", [[target for target in targets if target[0] != "ip_rcv"], skipped])
    facts.save()
    seen_then, _ = ping(pwru, network)
    assert seen_then == [name for name in seen if name != "ip_rcv"]


@without_functions
@pytest.mark.parametrize("damage", ["a bit", "cut off", "writable by others", "nothing"])
@pytest.mark.one_kernel
def test_a_file_that_is_not_to_be_trusted(damage: str, pwru: Start, network: Network) -> None:
    first = ping(pwru, network)
    path = file()
    data = path.read_bytes()
    if damage == "a bit":
        path.write_bytes(data.replace(b"ip_rcv", b"ip_rcx", 1))
    elif damage == "cut off":
        path.write_bytes(data[:-1000])
    elif damage == "writable by others":
        path.chmod(0o666)
    else:
        path.write_bytes(b"")
    assert ping(pwru, network) == first
    assert path.read_bytes() == data, "it was not replaced"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.one_kernel
def test_another_kernels_btf_is_not_remembered(pwru: Start, tmp_path: Path) -> None:
    """The file given by --kernel-btf is used for that run only."""
    copy = tmp_path / "btf"
    copy.write_bytes(Path("/sys/kernel/btf/vmlinux").read_bytes())
    with pwru(f"--kernel-btf={copy}") as trace:
        trace.stop()
    assert not os.path.exists(FOLDER) or not os.listdir(FOLDER)


@pytest.mark.one_kernel
def test_it_is_small(pwru: Start) -> None:
    with pwru() as trace:
        trace.stop()
    assert file().stat().st_size < 1 << 20
    json.loads(file().read_bytes().split(b"\n", 2)[2])
