"""RLIMIT_MEMLOCK is raised as far as needed if the kernel charges BPF memory to it, and untouched otherwise."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

import pytest

from pwru import libbpf
from pwru.kernel import features
from pwru.kernel.btf import vmlinux_btf
from vmtest.network import Network

from .backends import narrow
from .refusals import refused, working
from .tracing import Trace

pytestmark = [pytest.mark.two_kernels, pytest.mark.usefixtures("nothing_left")]

CHARGED = features.charges_memlock(vmlinux_btf())
WITHOUT_CAPABILITY = 'set -- setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource "$@"'
KB, MB = 1 << 10, 1 << 20
charged = pytest.mark.skipif(not CHARGED, reason="this kernel charges BPF memory to cgroups")


def under(soft_kb: int | str, hard_kb: int | str, *more: str) -> str:
    """Shell commands that set these limits. The soft limit may never exceed the hard one."""
    return "\n".join(("ulimit -Hl unlimited", f"ulimit -Sl {soft_kb}", f"ulimit -Hl {hard_kb}", *more))


def limits(trace: Trace) -> tuple[int, int]:
    """The soft and the hard limit in bytes; -1: unlimited."""
    text = Path(f"/proc/{trace.process.pid}/limits").read_text()
    (values,) = re.findall(r"^Max locked memory +(\S+) +(\S+) +bytes", text, re.MULTILINE)
    soft, hard = (-1 if value == "unlimited" else int(value) for value in values)
    return soft, hard


def traces(trace: Trace, network: Network) -> None:
    network.ping()
    trace.wait_for_func("icmp")


@pytest.mark.skipif(CHARGED, reason="this kernel charges BPF memory to the limit")
def test_untouched_where_it_does_not_count(network: Network, tmp_path: Path) -> None:
    with working(tmp_path, *narrow("tracepoint"), "icmp", before=under(64, 100)) as trace:
        assert limits(trace) == (64 * KB, 100 * KB)
        traces(trace, network)


@charged
@pytest.mark.parametrize("backend", ["kprobe", "fentry", "tracepoint"])
def test_within_the_hard_limit_nothing_is_needed(backend: str, network: Network, tmp_path: Path) -> None:
    before = under(64, "unlimited", WITHOUT_CAPABILITY)
    with working(tmp_path, *narrow(backend), "icmp", before=before) as trace:
        soft, hard = limits(trace)
        assert 8 * MB < soft < 32 * MB  # twice as much as needed, if other tests left something
        assert hard == -1
        traces(trace, network)


@charged
def test_beyond_the_hard_limit_it_takes_the_capability(network: Network, tmp_path: Path) -> None:
    with working(tmp_path, *narrow("tracepoint"), "icmp", before=under(64, 100)) as trace:
        soft, hard = limits(trace)
        assert soft == hard
        assert 8 * MB < soft < 32 * MB
        traces(trace, network)


@charged
def test_without_it_the_hint_helps(network: Network, tmp_path: Path) -> None:
    command = "pwru", *narrow("tracepoint"), "icmp"
    line = refused(*command, before=under(64, 100, WITHOUT_CAPABILITY), loads=True)
    match = re.fullmatch(r"pwru: .* 100 kB are allowed and (\d+) kB needed: `ulimit -l (\d+)` as root .*", line)
    assert match, line
    assert match[1] == match[2]
    with working(tmp_path, *command[1:], before=under(64, int(match[1]), WITHOUT_CAPABILITY)) as trace:
        traces(trace, network)


@charged
def test_higher_limits_stay(tmp_path: Path) -> None:
    with working(tmp_path, *narrow("tracepoint"), before=under(500_000, "unlimited")) as trace:
        assert limits(trace) == (500_000 * KB, -1)


@charged
def test_what_others_of_the_user_have_counts_too(network: Network, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    maps = [libbpf.map_create_array(bytes(3 * MB)) for _ in range(10)]
    try:
        with working(tmp_path, *narrow("tracepoint"), "icmp", before=under(64, 100)) as trace:
            assert 32 * MB < limits(trace)[0] < 128 * MB
            traces(trace, network)
    finally:
        for fd in maps:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
