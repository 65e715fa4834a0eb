"""The command line as a table: the parser is made from it, and it holds all that a man page or shell completion needs.

A flag that asks for another part of the record needs one row here, with that `part`, and nothing else in this package.
"""

import re
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

from pwru.cli import values
from pwru.live.backends import BACKENDS
from pwru.live.request import MAX_PAYLOAD

DESCRIPTION = """\
Packet, where are you? Shows the way of packets through the Linux kernel,
function by function, and where and why they are dropped."""

EPILOG = """\
A flag that takes no value may be given one: --output-json=false.

examples:
  pwru host 1.1.1.1 and tcp port 443
      the way of these packets, from end to end
  pwru --filter-drop-reason any --proto tcp
      only where TCP is dropped, and why
  pwru --src-ip 10.0.0.0/8 --dport 53 udp or tcp
      to a name server, from this network
  pwru --filter-netns /proc/$$/ns/net --output-limit-lines 100 icmp or icmp6
      in the network namespace of this shell, 100 events at most
  pwru --output-json --output-file dns.json --output-file-max-backups 9 port 53
      for days, one object per line, in no more than 1 GB

Run it as root. Events go to standard output, messages to standard error.
Ctrl-C ends a trace.
"""

SHELLS = ("bash", "zsh", "fish")
_TIMESTAMPS = ("none", "current", "relative", "absolute")
_COLORS = ("auto", "always", "never")
PAYLOAD = 128  # bytes: enough for all headers of most packets


class Kind(Enum):
    """How a flag takes its value. A LIST may be given in parts, as the Go tool's: --kmods a --kmods b,c."""

    BOOLEAN = auto()
    VALUE = auto()
    LIST = auto()
    WORDS = auto()
    VERSION = auto()
    HELP = auto()


class Flag(NamedTuple):
    """One row. `names`: the name and aliases, separated by spaces; one without dashes stands for all free words.

    `type` makes the value from text. `default`: the value if the flag is not given; None: the default of what it sets.
    `bare`: the text of the value if the flag is given without one; "" if it must have one. Of the flags with the same
    `exclusive` only one may be given. `hidden`: not in the help.

    `sets`: the path of a field of Options; of several, separated by spaces, each gets one element of the value. With a
    `primitive` of pcap-filter(7) the value is put into that and joined to others. `part`: the part of the record that
    the flag asks for unless its value is `off`; an integer is the size. `called`: the parameter as lower layers name
    it, if not by the last element of the path. `completes`: what the shell offers for the value, a name in
    candidates.py; `choices` are offered anyway.
    """

    names: str
    help: str
    metavar: str | None = None
    type: Callable[[str], Any] = str
    kind: Kind = Kind.VALUE
    choices: tuple[str, ...] | None = None
    default: Any = None
    bare: str = ""
    exclusive: str = ""
    hidden: bool = False
    sets: str = ""
    primitive: str = ""
    part: str = ""
    off: Any = False
    called: str = ""
    completes: str = ""
    group: str = ""

    @property
    def name(self) -> str:
        return self.names.partition(" ")[0]

    @property
    def parameters(self) -> list[str]:
        """The names that lower layers have for what the flag sets."""
        if self.called or self.primitive:
            return self.called.split()
        return [path.rpartition(".")[2] for path in self.sets.split()]


def switch(names: str, text: str, *, default: bool = False, **more: Any) -> Flag:
    more = {"kind": Kind.BOOLEAN, "default": default, "bare": "true", "completes": "switch", **more}
    return Flag(names, text, type=values.boolean, **more)


def _group(title: str, *flags: Flag) -> list[Flag]:
    return [flag._replace(group=title) for flag in flags]


def _any_of(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


# fmt: off
FLAGS: tuple[Flag, ...] = (
    *_group("packet filters (all must match)",
        Flag("PCAP-FILTER", "in the language of tcpdump, pcap-filter(7); all words are one filter", kind=Kind.WORDS,
             sets="request.filter.typed"),
        Flag("--src-ip", "from this address or network", "ADDR[/LEN]", values.address,
             sets="request.filter.primitives", primitive="src {}"),
        Flag("--dst-ip", "to this address or network", "ADDR[/LEN]", values.address, sets="request.filter.primitives",
             primitive="dst {}"),
        Flag("--sport", "from this port", "PORT", values.port, sets="request.filter.primitives",
             primitive="src port {}"),
        Flag("--dport", "to this port", "PORT", values.port, sets="request.filter.primitives",
             primitive="dst port {}"),
        Flag("--proto", "of this protocol: tcp, udp, icmp, icmp6, arp and some more, or a number", "PROTO",
             values.protocol, sets="request.filter.primitives", primitive="{}", completes="protocols"),
        Flag("--filter-netns", "in this network namespace, by path (/proc/PID/ns/net), name (ip-netns(8)) or number",
             "NETNS", sets="request.netns", completes="netns"),
        Flag("--filter-ifname", "on this interface of --filter-netns or, without that, of this namespace", "NAME",
             sets="request.ifname", completes="interfaces"),
        Flag("--filter-mark", "with this skb mark; 0: without a mark", "MARK[/MASK]", values.mark,
             sets="request.mark request.mark_mask"),
        Flag("--filter-skb-expr",
             "skb field condition, e.g. 'skb->len > 1000 && skb->mark & 0xff == 1' (C syntax; & binds tighter than ==)",
             "EXPR", sets="request.skb_expr"),
        Flag("--filter-xdp-expr",
             "with --filter-trace-xdp: the same on the frames of XDP, e.g. 'xdp->rxq->queue_index == 0'",
             "EXPR", sets="request.xdp_expr"),
        Flag("--filter-tunnel-pcap-l2",
             "of packets in a tunnel, only those that carry this: a PCAP-FILTER, from Ethernet on", "F", str.strip,
             sets="request.filter.inner_l2", called="tunnel_l2"),
        Flag("--filter-tunnel-pcap-l3",
             "of packets in a tunnel, only those that carry this: a PCAP-FILTER, from IP on", "F", str.strip,
             sets="request.filter.inner_l3", called="tunnel_l3"),
        Flag("--filter-pid", "while this process is on the CPU: what it sends, and only part of what it receives",
             "PID", values.pid, sets="request.pid", completes="pids"),
        Flag("--filter-comm", "while a process of this name is on the CPU", "NAME", values.comm, sets="request.comm",
             completes="comms"),
        Flag("--filter-drop-reason",
             "only where they are dropped, and only for these reasons (NO_SOCKET), a subsystem's (QDISC), or any",
             "A,B", values.drop_reasons, Kind.LIST, sets="request.drop_reasons", completes="drop_reasons"),
    ),
    *_group("following packets",
        switch("--follow --filter-track-skb",
               "trace a packet that matched once whatever becomes of it: with other addresses, in a tunnel, copied, "
               "in segments or fragments",
               sets="request.follow", part="follow"),
        switch("--filter-track-skb-by-stackid",
               "the same, and what is done with other skbs in functions below one that has the packet; x86-64 only",
               sets="request.by_stack"),
        Flag("--filter-non-skb-funcs",
             "the same, and also these functions, which need not take a packet, below one that has it", "A,B",
             values.functions, Kind.LIST, sets="request.without_skb", completes="all_functions"),
        Flag("--follow-packets", "how many skbs can be followed at a time; default: 16384", "N", values.followed,
             sets="request.follow_limit"),
    ),
    *_group("many packets",
        switch("--summary",
               "instead of lines, at the end and, on a terminal, every second: where packets are dropped, which ways "
               "they take and how long that takes; turns on --follow", sets="summary"),
        Flag("--only",
             "only packets that went wrong, each with its whole way: dropped, slower=5ms, retransmitted (by TCP) or "
             "stuck (not seen for a second); of several, any; turns on --follow",
             "A,B", values.only, Kind.LIST, sets="only", completes="only"),
    ),
    *_group("which functions",
        Flag("--filter-func", "only those whose whole name, in the source or as it is printed, matches this regex",
             "RE", exclusive="functions", sets="request.functions", completes="functions"),
        # What is traced anyway; scripts for the Go tool may ask for it.
        switch("--all-kprobes", "all that take a packet: the default", exclusive="functions", hidden=True),
        Flag("--kmods", "also those of these loaded kernel modules", "A,B", values.names, Kind.LIST,
             sets="request.modules", completes="modules"),
        switch("--all-kmods", "also those of all kernel modules, and of each that loads while tracing",
               sets="request.all_modules"),
    ),
    *_group("BPF programs",
        switch("--filter-trace-tc",
               "trace those that see an skb, too: of tc and tcx, cgroups, routes (LWT), sockets, netfilter; at entry "
               "and, with the verdict, at exit", sets="request.trace_tc", part="cb"),
        switch("--filter-trace-xdp", "trace those of XDP, too, whose packets are no skbs, in the same way",
               sets="request.trace_xdp"),
        switch("--filter-track-bpf-helpers",
               "also what these programs call: helpers and operations of maps; turns on "
               "--filter-track-skb-by-stackid and, if none of the above is given, both; x86-64 only",
               sets="request.trace_helpers"),
    ),
    *_group("how to trace",
        Flag("--backend", f"how to attach to the kernel: {_any_of(BACKENDS)}; default: the best that works", "NAME",
             choices=BACKENDS, sets="request.backend"),
        Flag("--filter-kprobe-batch", "kprobes to define in one write(2); default: 10", "N", values.positive,
             hidden=True, sets="request.kprobe_batch"),
        Flag("--ring-buffer-size",
             "room for events on their way, in bytes or as 512K, 8M; rounded up to a power of two; "
             "default: 1/256 of the memory, 4M to 64M",
             "SIZE", values.size, sets="request.ring_buffer_size"),
        Flag("--kernel-btf", "BTF of this kernel: raw, or an ELF vmlinux with a .BTF section", "FILE",
             sets="request.kernel_btf", completes="files"),
        Flag("--ready-file", "create FILE once everything is attached", "FILE", sets="ready_file", completes="files"),
        Flag("--user", "become USER once everything is attached, who then creates output files and the ready file",
             "USER", sets="user", completes="users"),
    ),
    *_group("output",
        switch("--group",
               "one block per packet, once it has ended: what became of it, then its way with the time between steps; "
               "turns on --follow",
               sets="group"),
        switch("--stages",
               "the same with the way in stages, each with the time spent there: IP out, netfilter, qdisc, driver "
               "and so on",
               sets="stages"),
        switch("--output-json --json", "one JSON object per line; with --check, one object", sets="json"),
        switch("--output-meta", "namespace, mark, interface, protocol, MTU, length; default: true", default=True,
               part="meta"),
        switch("--output-tuple", "addresses and ports; default: true", default=True, part="tuple"),
        switch("--output-packet-id",
               "with --follow: which packet it is, #17, and which skb of it: #17b (a clone, say), #17/3 (a segment)",
               sets="packet_id"),
        switch("--output-tcp-flags", "the flags of TCP, after the protocol: (tcp:SYN|ACK)", sets="request.tcp_flags"),
        switch("--output-tunnel", "addresses and ports of the packet inside a tunnel's packet", part="tunnel",
               called="tunnel"),
        switch("--output-skb-cb", "the control block, as BPF programs of tc see it", part="cb", called="cb"),
        switch("--output-netns-names", "names of network namespaces, those in /run/netns"),
        # The field is a width, and 0 without the flag above: options.py.
        Flag("--netns-names-max-length", "width of these names; default: 16", "N", values.name_width, default=16,
             sets="netns_names"),
        switch("--output-caller", "the caller of the function", sets="caller", part="location"),
        switch("--output-stack", "the kernel stack from the caller on, one function per line below the event",
               part="stack", called="stack"),
        Flag("--output-skb-metadata", "values of up to four fields, such as 'skb->hash,skb->dev->mtu'", "A,B",
             values.fields, Kind.LIST, sets="request.skb_metadata"),
        Flag("--output-xdp-metadata",
             "with --filter-trace-xdp: the same of frames of XDP, such as 'xdp->rxq->queue_index'", "A,B",
             values.fields, Kind.LIST, sets="request.xdp_metadata"),
        switch("--output-skb", "all non-zero members of struct sk_buff", part="skb", called="sk_buff"),
        switch("--output-skb-shared-info", "the same of its struct skb_shared_info", part="shared_info",
               called="shared_info"),
        switch("--output-bpfmap",
               "with --filter-track-bpf-helpers: name and id of the map, the key (up to 64 bytes) and the value (up to "
               "128) below the event", part="bpfmap", called="bpfmap"),
        Flag("--output-payload",
             f"the first N bytes of the packet with its headers, up to {MAX_PAYLOAD}; without N: {PAYLOAD}",
             "N", values.payload, bare=str(PAYLOAD), part="payload", called="payload"),
        # The size of a buffer of the Go tool, which is not needed here; scripts may set it.
        Flag("--set-percpu-buf", "ignored: no such buffer is needed", "N", values.positive, hidden=True),
        Flag("--timestamp",
             f"when: {_any_of(_TIMESTAMPS)}; current: ns since boot, relative: ns since this packet's last event, "
             "absolute: the time of day; default: none",
             "MODE", choices=_TIMESTAMPS, default="none", sets="timestamp", part="time", off="none"),
        Flag("--color",
             "drops red, the first line of a packet bold: auto (on a terminal), always or never; default: auto",
             "WHEN", choices=_COLORS, sets="color"),
        Flag("--output-limit-lines", "end after N events; default: 0, no limit", "N", values.count, sets="limit"),
        switch("--strict", "exit with 3 if events were lost or given up, probe hits missed or packets not followed",
               sets="strict"),
        Flag("--output-file", "append events to FILE, not to standard output", "FILE", sets="output_file",
             completes="files"),
        Flag("--output-file-max-size",
             "before FILE grows larger, rename it by the time and begin a new one; default: 100", "MB",
             values.positive, sets="output_file_max_size"),
        Flag("--output-file-max-age", "remove renamed files that are older; default: 0, never", "DAYS", values.days,
             sets="output_file_max_age"),
        Flag("--output-file-max-backups", "keep only N renamed files; default: 0, all", "N", values.count,
             sets="output_file_max_backups"),
        switch("--output-file-compress", "compress renamed files (gzip)", sets="output_file_compress"),
        Flag("--report",
             "instead of events, a page for a browser, written at the end: drops, ways, times, and each packet step by "
             "step; turns on --follow", "FILE", sets="report", completes="files"),
        Flag("--output-pcap",
             "write packets to FILE (- for standard output) for Wireshark and tshark: each where it is first seen and "
             "where it ends, with the function as its comment; turns on --follow; prints no events",
             "FILE", sets="output_pcap", completes="files"),
        switch("--output-pcap-all", "with --output-pcap: packets at every event", sets="output_pcap_all"),
    ),
    *_group("recordings",
        Flag("-w",
             "record events in FILE, - for a pipe, and print none; all that is cheap, and --output flags add to it; "
             "--follow is on", "FILE", sets="write", completes="files"),
        Flag("-r",
             "read from this recording, not from the kernel; a pattern in quotes reads all files of a run, - a pipe",
             "FILE", sets="read", completes="files"),
        Flag("--diff",
             "where packets of two recordings take different ways, and what they differ in before: --diff GOOD BAD; or "
             "packets of one: --diff FILE 'host A' 'host B'", "FILE", sets="diff", completes="files"),
        Flag("--output-parquet", "with -r: write a table for Parquet, and print none; needs the Python package pyarrow",
             "FILE", sets="output_parquet", completes="files"),
        switch("--print", "print events, too, though they are recorded", sets="print"),
        Flag("--filter-packet", "with -r: only packets with these numbers, as --output-packet-id prints them", "N,N",
             values.packets, Kind.LIST, sets="packets"),
        Flag("--filter-time",
             "with -r: only events in this span of time, such as 12:30:00..12:30:05, +1.5..+2 (s since the first) or "
             "2026-01-31T12:30..", "BEGIN..END", values.span, sets="span"),
    ),
    *_group("help",
        switch("--check", "report what works here, and why the rest does not", sets="check"),
        switch("--debug", "show debug messages and timings", sets="debug"),
        switch("--man", "print the manual page: pwru --man | man -l -", sets="man"),
        Flag("--completion", f"print the script for completion in this shell: {_any_of(SHELLS)}", "SHELL",
             choices=SHELLS, sets="completion"),
        Flag("--version", "show version", kind=Kind.VERSION),
        Flag("-h --help", "show this help", kind=Kind.HELP),
    ),
)
# fmt: on

_NAMES = {parameter: flag.name for flag in FLAGS for parameter in flag.parameters}


def flags_named(text: str, typed: Sequence[str] = ()) -> str:
    """Replace parameters, which lower layers name in backticks, by their flags; not in words that somebody `typed`."""
    words = {part for word in typed for part in (word, word.partition("=")[2]) if "`" in part}
    quoted = sorted(words, key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, quoted))})", text) if quoted else [text]
    pieces[::2] = [re.sub(r"`([a-z_0-9]+)`", lambda match: _NAMES.get(match[1], match[0]), p) for p in pieces[::2]]
    return "".join(pieces)
