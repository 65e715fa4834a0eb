"""Every pair of flags works: sets of flags that cover all pairs, each a trace of packets that match its filters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.pairs import DIFFERS_BY_KERNEL, WORDS, covering, go_together
from tests.support.pcapng import read
from vmtest.network import Network
from vmtest.udp import Udp

from .backends import BACKENDS, KERNEL
from .bpf_programs import Tc, programs, xdp
from .tracing import Start, Trace

pytestmark = [pytest.mark.three_kernels, pytest.mark.differs("5.10")]

AT_ONCE = 24  # flags of one trace, about
MODULES_HAVE_BTF = any(path.name != "vmlinux" for path in Path("/sys/kernel/btf").glob("*"))
EVERYTHING = KERNEL is not None and KERNEL.name == "6.12"
TRIED = BACKENDS if EVERYTHING else (*BACKENDS[:2], "tracepoint")
NAMES = [
    name
    for name in WORDS
    if (name in DIFFERS_BY_KERNEL or EVERYTHING)
    and (name != "--kmods" or MODULES_HAVE_BTF)
    and (not name.startswith("--backend ") or name.removeprefix("--backend ") in TRIED)
]


@pytest.fixture(scope="module")
def _programs(network: Network) -> Iterator[None]:
    """Programs that see the packets, and let them pass."""
    with programs() as folder, programs("xdp") as frames, ExitStack() as stack:
        stack.enter_context(Tc(network)).put(folder / "passes_every_packet_on")
        stack.enter_context(xdp(network, frames / "passes_every_frame_on", "xdpdrv"))
        yield


@pytest.mark.usefixtures("_programs")
@pytest.mark.parametrize("names", list(covering(NAMES, AT_ONCE)), ids=lambda names: names[0])
def test_all_of_them(names: list[str], network: Network, pwru: Start, udp: Udp, tmp_path: Path) -> None:
    values = {
        "folder": str(tmp_path),
        "pid": str(os.getpid()),
        "comm": Path("/proc/self/comm").read_text().strip(),
        "netns": f"/run/netns/{network.client}",
    }
    if BACKENDS[0] == "kprobe" and _attaches_to_all(names):
        names = [*names, "--filter-func"]  # to remove probes one by one takes long
    # Those with a dash first: all other words are the packet filter.
    words = [WORDS[name].format_map(values) for name in sorted(names, key=lambda name: name == "PCAP-FILTER")]
    with pwru(*words) as trace:
        udp.send(2)
        status = trace.stop()
    said = f"{' '.join(words)}\n{trace.err}{trace.out[:2000]}"
    assert "Traceback" not in trace.err, said
    assert status == 0 or (status == 3 and "--strict" in names and lost(trace)), said
    # A packet is dropped where it is received.
    if "--filter-drop-reason" not in names or not {"--filter-netns", "--filter-ifname", "--filter-pid"} & set(names):
        if "--output-pcap" in names:
            assert read((tmp_path / "events.pcapng").read_bytes()).packets, said
        written = tmp_path / "events" if "--output-file" in names else trace.folder / "out"
        lines = written.read_text().splitlines()
        assert "--output-pcap" in names or len(lines) >= (1 if "--output-json" in names else 2), said
        if "--report" in names:
            assert '"packets":{"number":[1' in (tmp_path / "report.html").read_text(), said
    if "--ready-file" in names:
        assert (tmp_path / "ready").exists(), said


def _attaches_to_all(names: list[str]) -> bool:
    return all(go_together(name, "--filter-func") for name in names) and "--filter-func" not in names


def lost(trace: Trace) -> bool:
    return "missed" in trace.err or trace.totals()[1] > 0
