"""Packets as a pcapng file: what Wireshark shows, with where in the kernel each was as its comment."""

from __future__ import annotations

import os
import re
import shlex
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from pwru.errors import PwruError, printable
from pwru.record.memo import CACHE_LIMIT, Memo
from pwru.record.parts import Meta, Payload
from pwru.record.schema import Record
from pwru.record.shown import check_recorded
from pwru.sinks import Source, StreamSink
from pwru.sinks.counting import PacketCount
from pwru.sinks.ends import Ends, Packets, Pick, Seen
from pwru.sinks.pcapng_blocks import ETHERNET, INBOUND, OUTBOUND, RAW, interface, packet, packet_options, section

if TYPE_CHECKING:
    from pwru.record.about import About
    from pwru.record.account import Account
    from pwru.record.names import Names
    from pwru.record.schema import Schema
    from pwru.sinks.stream import Stream

INTERFACE_LIMIT = 1 << 16  # of a section: then a new one begins
_LONGEST = 1 << 18  # bytes of a packet that Wireshark takes; what claims more has no length that is known
_BIG = 0xFFFF  # bytes; a length in an IP header is 0 beyond it
_UDP = 17

# The functions and tracepoints in which a packet comes from, or goes to, the device that it has then.
_DIRECTIONS = {
    INBOUND: r"(__)?netif_(receive_skb|rx)\w*|napi_gro_receive\w*|napi_gro_frags\w*|enqueue_to_backlog|eth_type_trans|"
    r"br_handle_frame\w*|(ip|ipv6|ip6|arp)_rcv\w*|ip_local_deliver\w*|ip6_input\w*|ip6?_protocol_deliver_rcu|"
    r"(__udp4_lib|__udp6_lib|tcp_v4|tcp_v6|udp|udpv6|icmp|icmpv6|igmp)_rcv",
    OUTBOUND: r"\w*_start_xmit|(__)?dev_queue_xmit\w*|sch_direct_xmit|validate_xmit_\w+|net_dev_(queue|xmit)|"
    r"(arp|br_dev|dummy|ip6|loopback|macvlan|veth|vxlan)_xmit|(__)?ip6?_local_out|ip_mc_output|"
    r"(__)?ip6?(_finish)?_output\d?|(__)?ip_queue_xmit|ip6?_send_skb|udp(_v6)?_send_skb",
}
_FREES = re.compile(r"k?free_skb|consume|drop")
_NAME = re.compile(r"(?:tracepoint:)?(\w+)")


class Site(NamedTuple):
    """What is known of a hit."""

    name: str
    drops: bool
    ends: bool  # the way of its packet, or
    after: bool  # has it after its end
    frees: bool
    has_place: bool  # in its name: of a drop
    direction: int


class Pcapng(StreamSink):
    """Writes each packet where it is first seen whole and where it ends, or, `every`, at each of its events.

    The records need the parts meta, time and payload; with location, it is said who dropped a packet.
    """

    def __init__(
        self, stream: Stream, *, json: bool = False, command: tuple[str, ...] = (), every: bool = False
    ) -> None:
        """`stream` takes whole pieces. `json`: the account is an object. `command`: of a live trace, for the file."""
        super().__init__(stream)
        self._command = command
        self._every = every
        self._json = json
        self._sites: dict[bytes, Site] = {}
        # Of this section: their numbers by namespace, index, name and link type, and by what records have of them.
        self._interfaces: dict[tuple[int, int, str, int], int] = {}
        self._interface_of: dict[tuple[bytes, bool], int] = {}
        self._files = 0
        self._count: PacketCount | None = None
        self._ended: float | None = None
        self._gave_up = False

    def open(self) -> None:
        super().open()
        if self.stream.fd is not None and os.isatty(self.stream.fd):
            raise PwruError("`output_pcap`: packets are not for a terminal: name a file, or have Wireshark read them")

    def begin(self, source: Source) -> None:
        for part in ("meta", "time", "payload"):
            check_recorded(source.schema, part)
        self._schema: Schema = source.schema
        self._names: Names = source.names
        self._generation = self._names.generation
        self._tasks = Memo(self._task)
        self._count = PacketCount(source)
        self._packets = Packets(source)
        self._ends = Ends(lambda record: is_whole(self._payload(record)))
        self._section = self._header(source.about)
        self.stream.begin(self._section)

    def write(self, records: list[Record]) -> int:
        assert self._count
        if self._generation != self._names.generation:
            self._generation = self._names.generation
            self._sites.clear()
        blocks: list[bytes] = []
        begun: list[int] = []  # for each block: the number of its record
        offset = self._names.clock_offset()
        for number, record in enumerate(map(Record._make, records)):  # what a ring buffer gives are plain tuples
            site = self._site(record.hit)
            who = self._packets.of(record, ends=site.ends, after=site.after)
            seen = Seen(record, who, site.drops, site.frees)
            for pick in [Pick(seen, "", who.relation, record)] if self._every else self._ends.take(seen):
                blocks.append(self._block(pick, offset))
                begun.append(number)
        self._count.see(records)
        self.packets, self.not_followed = self._count.packets, self._count.not_followed
        lost = self._put(blocks)
        taken = begun[-lost] if lost else len(records)
        self.events += taken
        return len(records) - taken

    def ending(self) -> None:
        if self._ended is None:
            self._ended = monotonic()

    def flush(self) -> None:
        """Write the last event of each packet that is on its way."""
        picks = sorted(self._ends.flush(), key=lambda pick: pick.seen.record.time)
        offset = self._names.clock_offset()
        self.events -= self._put([self._block(pick, offset) for pick in picks])

    def account(self, account: Account) -> str:
        if self._count:
            account = self._count.account(account, self._ended)
        return account.printed(as_json=self._json)

    def _header(self, about: About) -> bytes:
        """Return the header of a section, which says how the packets were traced."""
        command = shlex.join(("pwru", *(about.command or self._command)))
        release, _, machine = about.kernel
        return section(*map(printable, (command, machine, f"Linux {release}", f"pwru {about.version}")))

    def _put(self, blocks: list[bytes]) -> int:
        """Return how many of the blocks it gave up, the last ones. After that it gives up all.

        A pipe takes each or leaves it, a file all of them.
        """
        for number, piece in enumerate(blocks if self.stream.may_block else [b"".join(blocks)][: len(blocks)]):
            # After one was given up, another one may be of an interface that is not described.
            self._gave_up = self._gave_up or bool(self.stream.put(piece))
            if self._gave_up:
                return len(blocks) - number
        return 0

    def _block(self, pick: Pick, offset: int) -> bytes:
        """Return the block of a packet, after that of its interface if this is the first one there."""
        seen, record = pick.seen, pick.seen.record
        assert isinstance(record.time, int)
        payload = self._payload(pick.whole or record)
        data = payload.data if is_whole(payload) else b""
        # Wireshark takes an empty packet for a malformed one.
        length = max(len(data), payload.length if payload.length <= _LONGEST else 0, 1)
        number, described = self._interface(record.packet, has_mac=payload.has_mac)
        site = self._site(record.hit)
        after = f" after {self._site(pick.after.record.hit).name}" if pick.after and not site.has_place else ""
        comment = f"{pick.how} {site.name}{after}, {self._tasks[record.task]}".lstrip()
        packet_id = 0
        if not isinstance(seen.who.skb, int):
            comment += f", {seen.who.skb.name}" + f" ({pick.relation})" * bool(pick.relation)
            packet_id = seen.who.skb.packet.number
        options = packet_options(printable(comment), site.direction, packet_id)
        return described + packet(number, record.time + offset, data, length, options)

    def _interface(self, raw: bytes, *, has_mac: bool) -> tuple[int, bytes]:
        """Return the number of the interface that a packet is at, and the block that describes it, if that is new."""
        if self._files != self.stream.files:  # another one has begun
            self._files = self.stream.files
            self._forget_interfaces()
        if (number := self._interface_of.get((raw, has_mac))) is not None:
            return number, b""
        meta: Meta = self._schema.packet(raw)["meta"]
        link_type = ETHERNET if has_mac else RAW
        key = (meta.netns, meta.ifindex, meta.ifname, link_type)
        described = b""
        if key not in self._interfaces:
            if len(self._interfaces) >= INTERFACE_LIMIT:
                self._forget_interfaces()
                described = self._section
            name = meta.ifname or "(no device)"
            described += interface(link_type, name, self._description(meta.netns, has_mac=has_mac))
            self._interfaces[key] = len(self._interfaces)
        if len(self._interface_of) >= CACHE_LIMIT:
            self._interface_of.clear()
        number = self._interface_of[raw, has_mac] = self._interfaces[key]
        return number, described

    def _forget_interfaces(self) -> None:
        """A new section begins, which describes them anew."""
        self._interfaces.clear()
        self._interface_of.clear()

    def _description(self, inode: int, *, has_mac: bool) -> str:
        name = self._names.netns().get(inode)
        where = f"network namespace {inode or 'unknown'}" + (f" ({printable(name)})" if name else "")
        return where if has_mac else f"{where}, without link-layer header"

    def _site(self, raw: bytes) -> Site:
        if site := self._sites.get(raw):
            return site
        if len(self._sites) >= CACHE_LIMIT:
            self._sites.clear()
        hit = self._schema.hit(raw)
        function = self._names.function(hit)
        place = f"from {function.caller}" if function.drops and function.caller else ""
        words = (function.name, function.verdict, place)
        ends, after = hit.addr in self._names.ends, hit.addr in self._names.after_ends
        frees = ends or after or bool(_FREES.search(function.name))
        site = Site(
            " ".join(filter(None, words)), function.drops, ends, after, frees, bool(place), _direction(function.name)
        )
        self._sites[raw] = site
        return site

    def _task(self, raw: bytes) -> str:
        task = self._schema.task(raw)
        return f"{task.comm}:{task.pid}, CPU {task.cpu}"

    def _payload(self, record: Record) -> Payload:
        payload: Payload = self._schema.details(record.details)["payload"]
        return payload


def _direction(function: str) -> int:
    name = _NAME.match(function)
    return next((way for way, pattern in _DIRECTIONS.items() if name and re.fullmatch(pattern, name[1])), 0)


def is_whole(payload: Payload) -> bool:
    """Return whether these are the bytes of a packet: its headers may not be there, or written, yet.

    A length that is not that of the packet shows it, of IP and of UDP, if so much of the packet is there.
    """
    data, length = payload.data, payload.length
    if payload.has_mac or not data:
        return payload.has_mac and bool(data)
    version = data[0] >> 4
    if version == 4:
        header, total, protocol = 4 * (data[0] & 0xF), _u16(data, 2), data[9:10]
        in_pieces = _u16(data, 6) & 0x3FFF
    elif version == 6:
        header, total, protocol = 40, 40 + _u16(data, 4), data[6:7]
        in_pieces = 0
    else:
        return False
    if len(data) < header or length > _BIG:
        return True
    if total != length:
        return False
    udp = protocol == bytes([_UDP]) and not in_pieces and len(data) >= header + 8
    return not udp or _u16(data, header + 4) == length - header


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
