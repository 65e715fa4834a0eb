"""The capabilities that each backend and flag takes: pwru(8), "Capabilities"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from vmtest.network import Network, sh

from .refusals import refused, working

pytestmark = [pytest.mark.one_kernel, pytest.mark.usefixtures("nothing_left")]

OUT, RECEIVED = "--filter-func=__ip_local_out", "--filter-func=consume_skb"


class Row(NamedTuple):
    """With `capabilities`, a trace works from start to account; without the last of them, `without` is said."""

    arguments: str
    capabilities: str
    without: str = ""


HIDDEN = r"hides the addresses in it; to be shown them takes CAP_SYSLOG"
TABLE = (
    Row(f"--backend=kprobe-multi {OUT} --output-stack", "bpf perfmon syslog", HIDDEN),
    Row(f"--backend=kprobe-multi {OUT} --output-caller", "syslog perfmon bpf", "CAP_BPF missing"),
    Row(f"--backend=fentry {OUT} --output-stack", "syslog bpf perfmon", "CAP_PERFMON missing"),
    Row(f"--backend=fentry {OUT} --output-skb", "bpf perfmon syslog", HIDDEN),
    Row(f"--backend=kprobe {OUT} --follow", "bpf perfmon syslog", HIDDEN),
    Row(f"--backend=tracepoint {RECEIVED} --output-netns-names", "bpf perfmon"),
    Row("--backend=fentry --kmods=veth --filter-func=veth_xmit", "bpf perfmon syslog sys_admin", "not permitted"),
    Row("--backend=kprobe-multi --kmods=veth --filter-func=veth_xmit", "bpf perfmon syslog"),
    Row(f"--backend=tracepoint {RECEIVED} --filter-netns=client", "bpf perfmon"),
    Row(
        f"--backend=tracepoint {RECEIVED} --filter-netns=client --filter-ifname=v0",
        "bpf perfmon sys_admin",
        "cannot enter network namespace client: Operation not permitted",
    ),
    Row(f"--backend=tracepoint {RECEIVED} --user=nobody", "bpf perfmon setuid setgid", "takes CAP_SETGID"),
    Row(f"--backend=tracepoint {RECEIVED} --user=nobody", "bpf perfmon setgid setuid", "takes CAP_SETUID"),
    Row(
        f"--backend=tracepoint {RECEIVED} --output-file={{folder}}/events",
        "bpf perfmon dac_override",
        "events: Permission denied",
    ),
)


@pytest.fixture(autouse=True)
def _paranoid() -> Iterator[None]:
    """As in the kernel's own default: Debian's 3 takes CAP_SYS_ADMIN for kprobe."""
    paranoid = Path("/proc/sys/kernel/perf_event_paranoid")
    before = paranoid.read_text()
    paranoid.write_text("2")
    yield
    paranoid.write_text(before)


def only(capabilities: list[str]) -> str:
    return f'exec setpriv --bounding-set=-all,{",".join(f"+{name}" for name in capabilities)} --inh-caps=-all "$@"'


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.arguments} {row.capabilities}".replace("/", "_"))
def test_what_is_enough(row: Row, network: Network, tmp_path: Path, folder: Path) -> None:
    arguments, capabilities = row.arguments.format(folder=folder).split(), row.capabilities.split()
    with working(tmp_path, *arguments, "icmp", before=only(capabilities)) as trace:
        network.ping()
        events = folder / "events"
        trace.wait_for(lambda: "10.9.0." in (events.read_text() if events.exists() else trace.out))
    assert re.search(r"^[1-9]\d* events? of (?:at least )?\d+ packets?, 0 lost\b", trace.err, re.MULTILINE)
    if row.without:
        line = refused("pwru", *arguments, "icmp", before=only(capabilities[:-1]), loads=True)
        assert row.without.lower() in line.lower()


def test_programs_that_are_not_traced(network: Network, tmp_path: Path) -> None:
    """To look at BPF programs takes CAP_SYS_ADMIN; all else is traced without."""
    arguments = "--backend=kprobe-multi", OUT, "--filter-trace-tc", "icmp"
    with working(tmp_path, *arguments, before=only(["bpf", "perfmon", "syslog"])) as trace:
        network.ping()
        trace.wait_for_func("__ip_local_out")
    assert "Not traced: BPF programs: to look at them takes CAP_SYS_ADMIN." in trace.err
    (tmp_path / "more").mkdir()
    with working(tmp_path / "more", *arguments, before=only(["bpf", "perfmon", "syslog", "sys_admin"])) as trace:
        network.ping()
    assert "Not traced" not in trace.err


def test_kprobe_with_a_paranoid_kernel(tmp_path: Path) -> None:
    sh("sysctl", "-qw", "kernel.perf_event_paranoid=3")
    arguments = "--backend=kprobe", OUT, "icmp"
    line = refused("pwru", *arguments, before=only(["bpf", "perfmon", "syslog"]), loads=True)
    assert line.endswith("perf_event_open is refused (Permission denied); see the sysctl kernel.perf_event_paranoid")
    with working(tmp_path, *arguments, before=only(["bpf", "perfmon", "syslog", "sys_admin"])):
        pass
