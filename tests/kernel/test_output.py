"""What flags add to a line, with real packets: each test would fail if its flag did nothing."""

from __future__ import annotations

import base64
import fcntl
import os
import re
import struct
import subprocess
import termios
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from vmtest.network import Network, sh

from .backends import each_backend
from .leftovers import PATIENCE
from .packets import connect, netns_inode
from .tracing import Start, fails
from .tunnels import REMOTE, tunnel

pytestmark = pytest.mark.one_kernel

WAY = "ip_rcv|ip_local_deliver|icmp_rcv"


def test_timestamps(network: Network, pwru: Start) -> None:
    """All modes trace the same events, each taking its timestamps a little later than the one before."""
    modes = ("current", "relative", "absolute")
    with ExitStack() as stack:
        traces = {
            mode: stack.enter_context(
                pwru("--output-json", "--timestamp", mode, "--filter-func", WAY, "--output-limit-lines=6", "icmp")
            )
            for mode in modes
        }
        text = stack.enter_context(
            pwru("--timestamp", "absolute", "--filter-func", WAY, "--output-limit-lines=6", "icmp")
        )
        monotonic, day = time.monotonic_ns(), time.time()
        network.ping()
        for trace in (*traces.values(), text):
            trace.wait_until_it_ends()
        later, later_day = time.monotonic_ns(), time.time()
    current, relative, absolute = ([event["time"] for event in traces[mode].objects()] for mode in modes)
    assert monotonic < current[0] < current[-1] < later
    assert current == sorted(current)
    packets = [event["skb"] for event in traces["relative"].objects()]
    assert [at == 0 for at in relative] == [skb not in packets[:number] for number, skb in enumerate(packets)]
    assert sum(relative) < later - monotonic
    days = [datetime.fromisoformat(at).timestamp() for at in absolute]
    days += [datetime.fromisoformat(line.split()[0]).timestamp() for line in text.out.splitlines()[1:]]
    assert len(days) == 12
    assert all(day - 0.002 < at < later_day for at in days)


def test_columns(network: Network, firewall: int, pwru: Start) -> None:
    """Text and JSON of the same SYN, with and without a tunnel."""
    flags = ("--output-tcp-flags", "--output-tunnel", "--output-netns-names", "--output-skb-cb")
    arguments = ("--filter-func", "ip_output|ip_rcv|ip_local_deliver", f"tcp port {firewall} or udp port 4789 or icmp")
    with (
        tunnel(network, "vxlan"),
        pwru(*flags, *arguments) as text,
        pwru("--output-json", *flags, *arguments) as as_json,
    ):
        connect(network, network.destination, firewall)
        connect(network, REMOTE, firewall)
        network.ping("-R")
        for trace in (text, as_json):
            assert trace.stop() == 0
    header, *lines = text.out.splitlines()
    assert re.search(r" LEN +__sk_buff->cb\[\] +NETNS NAME +TUPLE FUNC TUNNEL$", header)
    syns = [line for line in lines if ":8080(tcp:SYN)" in line]
    assert any(re.search(r"10\.9\.0\.2:8080\(tcp:SYN\) +ip_rcv$", line) for line in syns)
    inner = re.compile(r":4789\(udp\) +ip_output 10\.7\.0\.1:\d+->10\.7\.0\.2:8080\(tcp:SYN\)$")
    tunnelled = [line for line in lines if inner.search(line)]
    assert tunnelled
    assert all(re.search(r" \[(0x[0-9A-F]{8},){4}0x[0-9A-F]{8}\] +client +", line) for line in tunnelled)
    assert all(" server " in line for line in lines if line.endswith("ip_rcv") and "->10.9.0.2" in line)
    # The kernel sends neighbour discoveries through the tunnel whenever it likes.
    lines = [line for line in lines if ":8080" in line]
    events = [event for event in as_json.objects() if ":8080" in f"{event}".replace("port': ", ":")]
    assert len(events) == len(lines)
    for event, line in zip(events, lines, strict=True):
        assert "[" + ",".join(f"0x{word:08X}" for word in event["cb"]) + "]" in line
        assert f" {event['netns_name']} " in line
        assert bool(event["tunnel_tuple"]) == bool(re.search(r" ip_\w+ 10\.7\.0\.1:", line))
        assert ("SYN" in line) == ("SYN" in (event["tuple"]["flags"], (event["tunnel_tuple"] or {}).get("flags")))
    # The kernel keeps the position of IP options in cb.
    received = [event for event in as_json.objects() if event["func"] == "ip_local_deliver"]
    with_options = [event["cb"] for event in received if event["tuple"]["proto"] == 1]
    assert with_options
    assert all(any(cb) for cb in with_options)


def _details(network: Network, pwru: Start, backend: str, *flags: str) -> dict[str, dict[str, Any]]:
    """The first event of each function or tracepoint for a ping with mark 0x77."""
    functions = "net_dev_queue|netif_receive_skb|consume_skb" if backend == "tracepoint" else f"{WAY}|__ip_local_out"
    start = ("--backend", backend, "--filter-func", functions, "--output-json", *flags, "icmp")
    with pwru(*start) as trace:
        network.ping("-m", "119")
        trace.wait_for_func("netif_receive_skb" if backend == "tracepoint" else '"icmp_rcv"')
        assert trace.stop() == 0
    events: dict[str, dict[str, Any]] = {}
    for event in trace.objects():
        events.setdefault(event["func"].removeprefix("tracepoint:"), event)
    assert trace.totals()[1] == 0
    return events


# The callers of these functions on all kernels, some of which inline more than others.
_CALLERS = {
    "__ip_local_out": r"ip_(local_out|send_skb|push_pending_frames)",
    "ip_rcv": r"__netif_receive_skb_(one_core|core|list_core)|ip_rcv_core|__netif_receive_skb",
    "icmp_rcv": r"ip_protocol_deliver_rcu|ip_local_deliver_finish",
    "ip_local_deliver": r"ip_rcv(_finish)?|__netif_receive_skb(_one_core)?|ip_sublist_rcv_finish",
}
DETAILS = (
    "--output-caller",
    "--output-stack",
    "--output-skb-metadata=skb->mark,skb->dev->mtu,skb->dev->name[1],skb->pkt_type",
    "--output-skb",
    "--output-skb-shared-info",
    "--output-payload=90",
)


@each_backend
def test_details(network: Network, pwru: Start, backend: str) -> None:
    """Caller, stack, fields, dumps and payload are right with every backend."""
    events = _details(network, pwru, backend, *DETAILS)
    for name, event in events.items():
        stack = event["stack"]
        assert 5 < len(stack) <= 50, stack
        assert all(re.fullmatch(r"[\w.]+\+0x[0-9a-f]+(\[\w+\])?", frame) for frame in stack), stack
        assert not any(re.search(r"bpf|ftrace|fprobe|kprobe|trampoline|traceiter", frame) for frame in stack), stack
        if backend == "tracepoint":
            assert stack[0] == event["caller_func"]
        else:
            assert re.fullmatch(_CALLERS[name], event["caller_func"]), (name, stack)
            assert stack[0].partition("+")[0] == event["caller_func"]
    if backend == "tracepoint":
        assert events["net_dev_queue"]["stack"][0].startswith("__dev_queue_xmit+")
        assert events["netif_receive_skb"]["stack"][0].startswith("__netif_receive_skb_core")
        sent, received = events["net_dev_queue"], events["netif_receive_skb"]
    else:
        sent, received = events["__ip_local_out"], events["ip_rcv"]
        assert any(frame.startswith(("raw_sendmsg+", "ping_v4_sendmsg+")) for frame in sent["stack"]), sent["stack"]
    assert sent["skb_metadata"]["skb->mark"] == 119
    assert received["skb_metadata"] == {
        "skb->mark": 0,
        "skb->dev->mtu": 1500,
        "skb->dev->name[1]": ord("1"),
        "skb->pkt_type": 0,
    }
    # The dump agrees with the columns.
    dump = sent["sk_buff"]
    assert dump.startswith("(struct sk_buff){\n")
    assert dump.endswith("\n}")
    assert re.search(rf"^ \.len = \(unsigned int\){sent['len']},$", dump, re.MULTILINE), dump
    assert re.search(r"\.mark = \(__u32\)119,$", dump, re.MULTILINE), dump
    assert "mark = " not in received["sk_buff"]
    assert re.search(r"\.dataref = \(atomic_t\)\{\n +\.counter = \(int\)\d+,", received["skb_shared_info"]), received
    # From the Ethernet header on, if it exists; each byte of a ping's data is its own offset.
    data = base64.b64decode(received["payload"])
    assert received["payload_has_mac"]
    assert (received["payload_len"], len(data)) == (98, 90)
    assert data[12:15] == b"\x08\x00\x45"
    assert data[26:34] == bytes((10, 9, 0, 1, 10, 9, 0, 2))
    assert data[58:] == bytes(range(16, 48))
    if backend != "tracepoint":
        assert not sent["payload_has_mac"]
        assert sent["payload_len"] == 84
        assert base64.b64decode(sent["payload"])[44:] == data[58:] + bytes(range(48, 56))


def test_details_in_text(network: Network, pwru: Start) -> None:
    """Columns, then the blocks below the row. A wrong field is reported before anything is traced."""
    flags = DETAILS[:-1]
    with pwru("--filter-func", "icmp_rcv", "--output-limit-lines=1", "--output-payload", *flags, "icmp") as trace:
        network.ping()
        trace.wait_until_it_ends()
    header, row, *below = trace.out.splitlines()
    assert header.endswith(" TUPLE FUNC CALLER")
    assert re.search(r"\(icmp\) icmp_rcv \w+ mark=0 mtu=1500 name\[1\]=49 pkt_type=0$", row), row
    blocks = [below.index(line) for line in ("(struct sk_buff){", "(struct skb_shared_info){")]
    blocks.append(below.index("98 of 98 bytes, from the MAC header on:"))
    assert blocks == sorted(blocks)
    assert re.match(r"ip_(protocol_deliver_rcu|local_deliver_finish)\+0x", below[0])
    assert below[-1] == "\t0x0060:  3637                                     67"
    line = fails("--output-skb-metadata", "skb->len,skb->mrak", "--filter-func", "no_such_function")
    assert line == "pwru: --output-skb-metadata: column 6: struct sk_buff has no member 'mrak'; did you mean mark?"


LOSSY = """
import socket
listener = socket.create_server(("10.9.0.2", 7001))
print(flush=True)
reader, _ = listener.accept()
while reader.recv(1 << 16):
    pass
"""
SEGMENTS = """
import socket
s = socket.create_connection(("10.9.0.2", 7001))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for _ in range(400):
    s.send(bytes(1000))
"""


def test_what_waits_in_a_tree(network: Network, pwru: Start) -> None:
    """TCP keeps unacknowledged skbs in an rbtree, whose pointers overlay the device.

    They have no socket and no headers either: all that is known is from the socket that a function takes.
    """
    rules = "table ip loss { chain in { type filter hook input priority 0; tcp dport 7001 meta length > 500 "
    rules += "numgen inc mod 3 0 drop; }; }"
    sh("ip", "netns", "exec", network.server, "nft", rules)
    command = ["ip", "netns", "exec", network.server, "python3", "-c", LOSSY]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as receiver:
            assert receiver.stdout
            receiver.stdout.readline()
            flags = "--filter-func=tcp_retransmit_skb|__tcp_retransmit_skb|tcp_rack_skb_timeout", "--output-json"
            with pwru(*flags) as trace:
                network.python(network.client, SEGMENTS)
                receiver.wait()
                assert trace.stop() == 0
    finally:
        sh("ip", "netns", "exec", network.server, "nft", "delete table ip loss")
    events = trace.objects()
    assert len(events) > 50
    known = (netns_inode(network.client), "v0:2", 1500)
    assert known in {(event["netns"], event["iface"], event["mtu"]) for event in events} <= {known, (0, "0", 0)}


def test_terminal(network: Network, firewall: int, tmp_path: Path) -> None:
    """On 80 columns rows are wrapped to fit; the first line of a packet is bold, and its drop is red."""
    ready = tmp_path / "ready"
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("=4H", 24, 80, 0, 0))
    functions = "ip_rcv|kfree_skb|kfree_skb_reason|sk_skb_reason_drop"
    arguments = ("--filter-func", functions, "--output-limit-lines=2", f"tcp dst port {firewall}")
    with subprocess.Popen(
        ["pwru", "--ready-file", str(ready), *arguments],
        stdout=slave,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": ""},
    ) as process:
        while not ready.exists():
            assert process.poll() is None
            time.sleep(0.02)
        connect(network, network.destination, firewall)
        assert process.wait(PATIENCE) == 0
    os.close(slave)
    lines = os.read(master, 1 << 16).decode().splitlines()
    os.close(master)
    header, header_rest, first, first_rest, drop, drop_rest = lines
    assert header.startswith("\x1b[2mSKB ")
    assert header_rest == "    TUPLE FUNC\x1b[0m"
    assert first.startswith("\x1b[1m0x")
    assert first_rest.endswith(":8080(tcp) ip_rcv\x1b[0m")
    assert drop.startswith("0x")
    assert re.search(r":8080\(tcp\) \x1b\[31m(sk_skb_reason_drop|kfree_skb)\S*\x1b\[39m\x1b\[0m$", drop_rest)
    assert all(len(re.sub(r"\x1b\[\d*m", "", line)) <= 80 for line in (header, first, drop))
