"""The page of a real trace has the packets that were sent: where they went, how they ended, and what they carried."""

from __future__ import annotations

import base64
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.page import Page

from .backends import BACKENDS, KERNEL, drop_function
from .topology import LEFT, RIGHT, nft, router, rule, udp
from .tracing import Start

pytestmark = pytest.mark.two_kernels

DROPPED, PORT = 8080, 9999
PAYLOAD = b"</script><script>alert(1)</script>"
HAS_REASONS = KERNEL is None or KERNEL.name != "5.10"
# Single probes take long to attach: these are enough.
FUNCS = "__ip_local_out|ip_output|ip_rcv|ip_forward|ip_local_deliver|udp_rcv|skb_release_head_state|kfree_skbmem|"
FEW: Sequence[str] = () if "kprobe-multi" in BACKENDS else ("--filter-func", FUNCS + drop_function())


def test_a_trace(pwru: Start, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    flags = (f"--report={path}", *FEW, f"src host {LEFT} and udp")
    with (
        router(),
        nft("router", rule("forward", f"udp dport {DROPPED} drop")),
        pwru(*flags) as trace,
        udp("left") as client,
        udp("right", PORT) as server,
    ):
        client.sendto(PAYLOAD, (RIGHT, DROPPED))
        client.sendto(PAYLOAD, (RIGHT, PORT))
        assert server.recv(100) == PAYLOAD
        assert trace.stop() == 0
    assert not trace.out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page = Page(path.read_text())
    assert f"--report={path}" in page.data["run"]["command"]
    assert page.data["run"]["account"] == trace.err.splitlines()[-1]
    dropped, received = page.packets
    assert (dropped.outcome, received.outcome) == ("dropped", "ended")
    # What was received has no device any more where it is freed, and so no namespace: 0.
    ways = [[place for place in packet.places if place != "0"] for packet in (dropped, received)]
    assert ways == [["left", "router"], ["left", "router", "right"]]
    [(step, reason, place)] = dropped.drops
    assert dropped.functions[step].startswith(drop_function())
    if HAS_REASONS:
        assert reason == "NETFILTER_DROP"
        assert place.partition("[")[0] in ("nft_do_chain", "nf_hook_slow"), place
    for packet, port in ((dropped, DROPPED), (received, PORT)):
        assert packet.functions[0] == "__ip_local_out" or not FEW
        assert f"→ {RIGHT}:{port} udp" in packet.addresses
        assert packet.times == sorted(packet.times)
        assert any(base64.b64decode(data).endswith(PAYLOAD) for data, *_ in packet.payloads)
