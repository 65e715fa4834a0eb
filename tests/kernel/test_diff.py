"""Recordings of packets that are read and of packets that are dropped, compared."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from vmtest.network import Network
from vmtest.udp import PORT, Udp

from . import topology
from .backends import drop_function
from .tracing import Start

pytestmark = pytest.mark.two_kernels

OPEN_PORT = 5002
PLACES = f"__ip_local_out|ip_rcv|ip_local_deliver|skb_consume_udp|{drop_function()}|skb_release_head_state|kfree_skbmem"


def test_where_they_part(network: Network, pwru: Start, udp: Udp, tmp_path: Path) -> None:
    good, bad = str(tmp_path / "good.pwru"), str(tmp_path / "bad.pwru")
    with (
        topology.udp(network.server, OPEN_PORT) as reader,
        topology.udp(network.client) as sender,
        pwru("-w", good, "--filter-func", PLACES, f"udp dst port {OPEN_PORT}") as trace,
    ):
        for _ in range(3):
            sender.sendto(b"read", (network.destination, OPEN_PORT))
            reader.recv(100)
        assert trace.stop() == 0
    with pwru("-w", bad, "--filter-func", PLACES, f"udp dst port {PORT}") as trace:
        udp.send(4)
        assert trace.stop() == 0
    words = ["pwru", "--diff", good, bad]
    found = json.loads(subprocess.run([*words, "--output-json"], check=True, capture_output=True, text=True).stdout)
    (parting,) = found["partings"]
    assert (parting["good"]["packets"], parting["bad"]["packets"]) == (3, 4)
    assert parting["last"] == "ip_local_deliver"
    assert parting["good"]["next"] == "skb_consume_udp"
    assert parting["bad"]["next"].partition("(")[0] == drop_function()
    assert "udp" in parting["bad"]["place"]
    differences = {difference["what"]: difference for difference in parting["differences"]}
    assert (differences["dport"]["good"], differences["dport"]["bad"]) == ([str(OPEN_PORT)], [str(PORT)])
    assert differences["dport"]["func"] == "__ip_local_out"
    assert "netns" not in differences
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert "up to ip_local_deliver; then\n  GOOD  skb_consume_udp" in text
