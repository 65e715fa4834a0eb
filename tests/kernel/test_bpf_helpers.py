"""--filter-track-bpf-helpers, --output-bpfmap: what the BPF programs call that see a packet, with keys and values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vmtest.network import Network

from .bpf_programs import Tc, lead_tail_call, programs, xdp
from .following import ended
from .tracing import Start, Trace

TRACED = "--filter-track-bpf-helpers", "--output-caller"
# With it no function has an event near the programs: these alone say which packet is theirs.
FAR = "--filter-func", "udp_send_skb"
NEAR = "--filter-func", "__dev_queue_xmit"
JSON = *TRACED, "--output-bpfmap", "--output-json"
LARGE = 200  # bytes in the packets that the traces are about
# Of the maps of helpers.bpf.c: what is done, the key and the value.
HASH = [
    ("update", "01020304", "8877665544332211"),
    ("lookup", "01020304", "8877665544332211"),
    ("lookup", "fecaad0b", None),
    ("delete", "01020304", None),
]
EITHER = [("update", "06070809", "9900000000000000")]
LRU = [("update", "2a00000000000000", "77000000"), ("lookup", "2a00000000000000", "77000000")]
TRIE = [("update", "180000000a090000", "77000000"), ("lookup", "200000000a090007", "77000000")]


@pytest.fixture
def folder() -> Iterator[Path]:
    with programs("helpers") as folder:
        yield folder


def send(network: Network) -> None:
    """Send a large packet and a small one, by the same functions on one stack: the first one may wait for ARP."""
    code = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
    for size in (1, LARGE, 1):
        code += f"; s.sendto(bytes({size}), ('{network.destination}', 9))"
    network.python(network.client, code)


def large(network: Network) -> str:
    return f"udp and greater {LARGE} and dst {network.destination}"


def called(events: list[dict[str, Any]], caller: str) -> list[dict[str, Any]]:
    """What the program calls: all for the first packet, by its stack, and told as nobody else's."""
    found = [event for event in events if event["tracked_by"] == "stackid"]
    assert {event["packet"] for event in found} == {1}
    return [event for event in found if event["caller_func"] == caller]


def operations(events: list[dict[str, Any]], name: str) -> list[tuple[str, str, str | None]]:
    """What is done with a map."""
    found = []
    for event in events:
        if (used := event["bpf_map"]) and used["name"] == name:
            (verb,) = re.findall("update|lookup|delete", event["func"])
            assert used["id"] > 0
            assert used["found"] == (verb != "lookup" or used["value"] is not None)
            found.append((verb, used["key"], used["value"]))
    return found


@pytest.mark.three_kernels
@pytest.mark.usefixtures("nothing_left")
def test_maps_and_helpers(network: Network, pwru: Start) -> None:
    with programs("helpers") as folder, Tc(network) as tc:
        tc.put(folder / "calls_helpers", 1)
        tc.put(folder / "calls_them_too", 2)
        with pwru("--filter-trace-tc", *FAR, *JSON, large(network)) as trace:
            send(network)
            events = ended(trace)
    first, second = called(events, "calls_helpers(tc)"), called(events, "calls_them_too(tc)")
    helpers = [event["func"] for event in first if event["bpf_map"] is None]
    assert helpers == ["bpf_skb_load_bytes", "bpf_skb_store_bytes", "bpf_redirect"]
    # The helper finds the map's function, and may jump there: both are called by the program then.
    assert operations(first, "a_hash") in (HASH + EITHER, HASH + 2 * EITHER)
    assert operations(second, "a_hash") == HASH
    assert operations(first, "an_lru") == LRU
    # Where the kernel has it traced: "notrace" has come and gone for the functions of this type.
    assert operations(first, "a_trie") == (TRIE if "trie_lookup_elem" not in trace.err else [])
    own = f"{first[0]['cpu'] + 0x10:02x}{'00' * 7}"
    assert operations(first, "on_each_cpu") == [("update", "05000000", own), ("lookup", "05000000", own)]
    assert operations(first, "an_array") == [("update", "05000000", own)]
    (cut,) = (event["bpf_map"] for event in first if event["bpf_map"] and event["bpf_map"]["name"] == "too_large")
    assert (len(cut["key"]), cut["key_size"], len(cut["value"]), cut["value_size"]) == (2 * 64, 200, 2 * 128, 200)
    assert len(second) == len(HASH)
    assert re.search("^Not seen: lookups in map an_array,", trace.err, re.MULTILINE)
    assert re.search("^Not traced, although .*bpf_ktime_get_ns: the tracer", trace.err, re.MULTILINE)


@pytest.mark.one_kernel
def test_text(network: Network, pwru: Start, folder: Path) -> None:
    with Tc(network) as tc:
        tc.put(folder / "calls_them_too")
        with pwru("--filter-trace-tc", *TRACED, *NEAR, "--output-bpfmap", large(network)) as trace:
            send(network)
            assert trace.stop() == 0
    lines = [line for line in trace.out.splitlines() if line.startswith("map")]
    assert [re.sub(r"id \d+", "id N", line) for line in lines] == [
        "map a_hash (id N): key 01 02 03 04, value 88 77 66 55 44 33 22 11",
        "map a_hash (id N): key 01 02 03 04, value 88 77 66 55 44 33 22 11",
        "map a_hash (id N): key fe ca ad 0b, value not found",
        "map a_hash (id N): key 01 02 03 04",
    ]
    assert re.search(r"\(udp\) htab_map_update_elem +calls_them_too\(tc\)\nmap", trace.out)


@pytest.mark.two_kernels
def test_xdp(network: Network, pwru: Start, folder: Path) -> None:
    with (
        xdp(network, folder / "calls_in_xdp", "xdpdrv"),
        pwru("--filter-trace-xdp", *FAR, *JSON, large(network)) as trace,
    ):
        send(network)
        events = ended(trace)
    length = f"{14 + 20 + 8 + LARGE:02x}{'00' * 7}"
    in_xdp = called(events, "calls_in_xdp(xdp)")
    assert operations(in_xdp, "of_xdp") == [("update", "0df00000", length), ("lookup", "0df00000", length)]
    assert {event["skb"] for event in in_xdp} == {e["skb"] for e in events if e["func"] == "calls_in_xdp(xdp)"}


@pytest.mark.one_kernel
def test_tail_call(network: Network, pwru: Start) -> None:
    """The program that is reached so has no events, but what it calls has."""
    with programs() as folder, Tc(network) as tc:
        lead_tail_call(folder, "calls_a_helper")
        tc.put(folder / "calls_another")
        with pwru("--filter-trace-tc", *TRACED, *NEAR, "--output-json", large(network)) as trace:
            send(network)
            events = ended(trace)
    assert [event["func"] for event in called(events, "calls_a_helper(tc)")] == ["bpf_skb_load_bytes"]


@pytest.mark.one_kernel
def test_loaded_later(network: Network, pwru: Start) -> None:
    flags = "--filter-trace-tc", *NEAR, *JSON
    with Tc(network) as tc, pwru(*flags, large(network)) as trace, programs("helpers") as folder:
        trace.wait_for(lambda: attached_to(trace, "calls_them_too"))
        tc.put(folder / "calls_them_too")
        send(network)
        events = ended(trace)
    assert operations(called(events, "calls_them_too(tc)"), "a_hash") == HASH


def attached_to(trace: Trace, program: str) -> bool:
    return re.search(rf"^Attached to BPF programs .*{program}", trace.err, re.MULTILINE) is not None
