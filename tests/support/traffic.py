"""Made-up traffic for a report: `python -m tests.support.traffic FILE [PACKETS]` writes a page with it.

A client and a server in namespaces of their own, and a router with a firewall between them. What goes wrong: datagrams
to a closed port, what the firewall drops, a neighbour that does not answer, a SYN that is sent again.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pwru import __version__
from pwru.record.about import About
from pwru.record.account import Account
from pwru.record.names import Function, Hit
from pwru.record.schema import Record
from pwru.sinks.report import Report
from tests.support import records
from tests.support.source import FakeNames, FakeSource

SCHEMA = records.schema("follow", "time", "location", tcp_flags=True, payload=64)
NETNS = {4026532237: "client", 4026532301: "router", 4026532366: "server"}
BOOT = 5 * 86400 * 10**9  # when the trace begins, in ns since boot
ABOUT = About(__version__, ("6.12.43+deb13-amd64", "#1 SMP", "x86_64"), "kprobe-multi")
COMMAND = ("--report", "made.html", "net 10.9.0.0/16")
REASONS = {1: "SKB_DROP_REASON_NETFILTER_DROP", 2: "SKB_DROP_REASON_NO_SOCKET"}
DROP, END = "sk_skb_reason_drop", "kfree_skbmem"

OUT = "__ip_local_out nf_hook_slow ip_output nf_hook_slow ip_finish_output2 __dev_queue_xmit dev_hard_start_xmit"
IN = "__netif_rx netif_rx_internal enqueue_to_backlog __netif_receive_skb_core ip_rcv ip_rcv_core nf_hook_slow"
ROUTE = "ip_route_input_noref ip_forward nf_hook_slow"
FORWARD = f"{ROUTE} ip_forward_finish ip_output nf_hook_slow ip_finish_output2"
ACROSS = f"{FORWARD} __dev_queue_xmit dev_hard_start_xmit veth_xmit {IN}"
LOCAL = "ip_route_input_noref ip_local_deliver nf_hook_slow ip_local_deliver_finish"
FREE = f"skb_release_head_state skb_release_data {END}"


class Device(NamedTuple):
    netns: int
    ifindex: int
    name: bytes


CLIENT, SERVER = Device(4026532237, 2, b"eth0"), Device(4026532366, 2, b"eth0")
LEFT, RIGHT = Device(4026532301, 4, b"veth-client"), Device(4026532301, 5, b"veth-server")


class Flow(NamedTuple):
    """Packets of one kind; `way` begins at the client. A function that drops is followed by `:` and the reason."""

    to: str
    ports: tuple[int, int] | None
    l4: int
    flags: int
    pid: int
    comm: bytes
    length: int
    sent_by: str
    way: tuple[tuple[Device, str], ...]


def _delivered(functions: str) -> tuple[tuple[Device, str], ...]:
    return (LEFT, IN), (LEFT, ACROSS), (SERVER, f"{LOCAL} {functions} {FREE}")


_TCP = "tcp_v4_rcv tcp_v4_do_rcv tcp_rcv_established tcp_queue_rcv skb_copy_datagram_iter consume_skb"
DATA = Flow("10.9.1.2", (40000, 443), 6, 0x18, 4711, b"curl", 1480, "__tcp_transmit_skb", _delivered(_TCP))
PING = Flow("10.9.1.2", None, 1, 0, 811, b"ping", 84, "ip_send_skb", _delivered("icmp_rcv icmp_echo consume_skb"))
CLOSED = Flow(
    "10.9.1.2", (51515, 9), 17, 0, 99, b"python3", 60, "udp_send_skb", _delivered(f"udp_rcv __udp4_lib_rcv {DROP}:2")
)
FILTERED = Flow(
    *("10.9.1.2", (45454, 8080), 6, 2, 4712, b"nc", 60, "__tcp_transmit_skb"),
    ((LEFT, IN), (LEFT, f"{ROUTE} nft_do_chain {DROP}:1 {FREE}")),
)
STUCK = Flow(
    *("10.9.1.77", None, 1, 0, 812, b"ping", 84, "ip_send_skb"),
    ((LEFT, IN), (LEFT, FORWARD), (RIGHT, "neigh_resolve_output __neigh_event_send")),
)
AGAIN = Flow("10.9.1.2", (47000, 81), 6, 2, 4713, b"wget", 60, "__tcp_transmit_skb", _delivered(f"tcp_v4_rcv {DROP}:2"))


class Traffic:
    """Makes records; each packet begins a little later than the one before."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._functions = [""]  # 0 is no location
        self._now = BOOT
        self._packets = 0

    def names(self) -> FakeNames:
        return FakeNames(self._function, ends={self._number(END)}, netns=lambda: NETNS)

    def records(self, packets: int) -> list[Record]:
        """Return the records of so many packets, in order."""
        return sorted(
            (record for flow in self._flows(packets) for record in self.packet(flow)), key=lambda record: record.time
        )

    def packet(self, flow: Flow) -> list[Record]:
        self._packets += 1
        self._now += int(self._random.expovariate(1) * 400_000)
        packet = self._packets << 20
        if flow is not AGAIN:
            return self._way(flow, self._now, {"packet": packet})
        made = []  # three clones, one and two seconds apart
        for number, pause in enumerate((0, 1_012_000_000, 2_030_000_000), 1):
            birth = {"relation": "CLONE", "parent": (packet, packet), "transmission": number}
            made += self._way(flow, self._now + pause, {"packet": packet, "instance": packet + number}, birth)
        return made

    def _flows(self, packets: int) -> Iterator[Flow]:
        for number in range(packets):
            if number % 97 == 40:
                yield STUCK
            elif number % 61 == 30:
                yield AGAIN
            else:
                yield self._random.choices((DATA, PING, CLOSED, FILTERED), (4, 2, 1, 1))[0]

    def _function(self, hit: Hit) -> Function:
        name, caller = self._functions[hit.addr], self._functions[hit.location]
        return Function(f"{name}({REASONS[hit.reason]})" if name == DROP else name, caller, name == DROP)

    def _number(self, name: str) -> int:
        if name not in self._functions:
            self._functions.append(name)
        return self._functions.index(name)

    def _way(self, flow: Flow, now: int, told: dict[str, Any], birth: dict[str, Any] | None = None) -> list[Record]:
        address = 0xFFFF888000000000 + self._packets % 997 * 0x100
        cpu, task, before, made = self._random.randrange(4), (flow.pid, flow.comm), 0, []
        ttl = 64
        runs = [(CLIENT, name) for name in f"{flow.sent_by} {OUT} veth_xmit".split()]
        runs += [(device, name) for device, names in flow.way for name in names.split()]
        for device, called in runs:
            name, _, reason = called.partition(":")
            now += int(self._random.lognormvariate(6, 1))
            if name == "__netif_receive_skb_core":  # the other half, in a softirq
                cpu, task = self._random.randrange(4), (0, b"swapper/2")
                now += int(self._random.lognormvariate(9, 1))
            at, has_mac = self._number(name), name in ("dev_hard_start_xmit", "veth_xmit")
            ttl -= name == "ip_forward_finish"
            follow = records.follow(**told, **(birth or {}), ended=name == END)
            made.append(
                records.record(
                    skb=address,
                    task=records.task(*task, cpu=cpu),
                    hit=records.hit(at, int(reason or 0), before),
                    packet=_state(flow, device, has_mac=has_mac),
                    rest=follow + records.u64(now) + payload(_bytes(flow, ttl), flow.length, has_mac=has_mac),
                )
            )
            before, birth = at, None
        return records.cut(SCHEMA, *made)


def _state(flow: Flow, device: Device, *, has_mac: bool) -> bytes:
    length = flow.length + 14 * has_mac
    meta = records.meta(netns=device.netns, ifindex=device.ifindex, ifname=device.name, length=length)
    return meta + records.addresses("10.9.0.2", flow.to, flow.ports, flow.l4, flow.flags)


def _bytes(flow: Flow, ttl: int) -> bytes:
    addresses = b"".join(bytes(map(int, address.split("."))) for address in ("10.9.0.2", flow.to))
    header = struct.pack(">BBHHHBBH", 0x45, 0, flow.length, 7, 0x4000, ttl, flow.l4, 0) + addresses
    return header + struct.pack(">HHII", *(flow.ports or (0x800, 0)), 1, 0) + b"GET /index.html HTTP/1.1\r\n"


def payload(packet: bytes, length: int, *, has_mac: bool) -> bytes:
    """Return the part `payload`."""
    data = (b"\x02\0\0\0\0\2\x02\0\0\0\0\1\x08\0" * has_mac + packet)[:64]
    return struct.pack("=IIII", length + 14 * has_mac, len(data), has_mac, 0) + data.ljust(64, b"\0")


def write(
    path: Path, packets: Sequence[Record], names: FakeNames, command: Sequence[str] = COMMAND, *, limit: int = 100_000
) -> Account:
    """Write the page of these records; return the account."""
    report = Report(str(path), command=command, limit=limit)
    report.open()
    report.begin(FakeSource(SCHEMA, names, ABOUT))
    for at in range(0, len(packets), 500):
        report.write(list(packets[at : at + 500]))
    report.flush()
    count = len(packets)
    account = Account(count, 0, 0, 0, 1 << 22, events=count, packets=report.packets, sees_ends=True)
    report.finish(account)
    report.close()
    if report.failure:
        raise report.failure
    return account


def write_made_up(path: Path, packets: int, *, limit: int = 100_000) -> Account:
    traffic = Traffic()
    return write(path, traffic.records(packets), traffic.names(), limit=limit)


if __name__ == "__main__":
    write_made_up(Path(sys.argv[1]), int((*sys.argv, "400")[2]))
