"""The command line: flags to Options, and errors to one line and an exit status.

`parser()` is also what the man page and shell completion are made from, so nothing but argparse is needed to call it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from typing import Any, NoReturn

from pwru import __version__
from pwru.commands.messages import say
from pwru.commands.options import Options
from pwru.errors import PwruError, printable
from pwru.live.backends import BACKENDS

_EPILOG = """\
A flag that takes no value may be given one: --output-json=false.

examples:
  pwru host 1.1.1.1 and tcp port 443
      the way of these packets, from end to end
  pwru --filter-drop-reason any --proto tcp
      only where TCP is dropped, and why
  pwru --src-ip 10.0.0.0/8 --dport 53 udp or tcp
      to a name server, from this network
  pwru --filter-netns /proc/$$/ns/net --output-limit-lines 100 icmp or icmp6
      in the network namespace of this shell, and not for ever
  pwru --output-json --output-file dns.json --output-file-max-backups 9 port 53
      for days, an object a line, in no more than 1 GB

Run it as root. Events go to standard output, all else to standard error.
Ctrl-C ends a trace.
"""


# What libpcap takes for a protocol by itself. Not `vlan`, `mpls` and the like, which move what comes after them.
_PROTOCOLS = "ah, arp, carp, esp, icmp, icmp6, igmp, igrp, ip, ip6, pim, rarp, sctp, stp, tcp, udp, vrrp"

_TIMESTAMPS = ("none", "current", "relative", "absolute")
_COLORS = ("auto", "always", "never")

_MAX_FIELDS = 4
_MAX_PID = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h
_MAX_DAYS = 36500
_NAME_MAX = 255  # include/uapi/linux/limits.h
# Bytes of a packet: enough for all headers of most; what a record has room for.
_PAYLOAD, _MAX_PAYLOAD = 128, 1024

# Flags that stand for a primitive of pcap-filter(7), in the order in which they are joined.
_PRIMITIVES = {"src_ip": "src {}", "dst_ip": "dst {}", "sport": "src port {}", "dport": "dst port {}", "proto": "{}"}


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "t", "1"):
        return True
    if text.lower() in ("false", "f", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _count(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return int(text)


def _size(text: str) -> int:
    if not (value := _count(text)):
        raise argparse.ArgumentTypeError("it must be 1 or more")
    return value


def _pid(text: str) -> int:
    if not 1 <= (value := _count(text)) <= _MAX_PID:
        raise argparse.ArgumentTypeError(f"{text} is no PID: they are from 1 to {_MAX_PID}")
    return value


def _days(text: str) -> int:
    if (value := _count(text)) > _MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{text}: it must be {_MAX_DAYS} or less; 0 is for ever")
    return value


def _bytes(text: str) -> int:
    """4096, 512K, 8M, 1G: as bytes."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text, re.IGNORECASE)
    size = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()] if match else 0
    if not 1 <= size <= 1 << 30:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size up to 1G, such as 512K or 8M")
    return size


def _u32(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 32 bits, decimal or 0x…")
    return value


def _mark(text: str) -> tuple[int, int]:
    """MARK or MARK/MASK; 0 without a mask is off, as is a mask of 0."""
    mark, slash, mask = text.partition("/")
    value = _u32(mark)
    return value, _u32(mask) if slash else (0xFFFFFFFF if value else 0)


def _comm(text: str) -> str:
    if not 1 <= len(os.fsencode(text)) <= 15 or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a process: the kernel keeps 1 to 15 bytes of it")
    return text


def _name_width(text: str) -> int:
    if not len("NETNS NAME") <= (width := _count(text)) <= _NAME_MAX:
        raise argparse.ArgumentTypeError(f"{text}: it must be 10 or more, up to {_NAME_MAX}")
    return width


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(re.fullmatch(r"[\w-]+", name) for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names: a,b,c")
    return names


def _fields(text: str) -> tuple[str, ...]:
    fields = tuple(field.strip() for field in text.split(","))
    if not all(fields):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of fields: skb->mark,skb->dev->mtu")
    return fields


class _Extend(argparse.Action):
    """A list that may be given in parts, as the Go tool's: --kmods a --kmods b,c."""

    def __call__(self, _parser: object, namespace: argparse.Namespace, values: Any, _option: object = None) -> None:
        setattr(namespace, self.dest, getattr(namespace, self.dest) + values)


def _payload(text: str) -> int:
    if not re.fullmatch(r"\d{1,4}", text) or not 1 <= int(text) <= _MAX_PAYLOAD:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes from 1 to {_MAX_PAYLOAD}")
    return int(text)


def _address(text: str) -> str:
    import ipaddress

    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        hint = (
            f"did you mean {ipaddress.ip_network(text, strict=False)}?"
            if "host bits" in str(error)
            else "10.0.0.1 is one, or fd00::/8"
        )
        raise argparse.ArgumentTypeError(f"{text!r} is no address or network; {hint}") from None
    if "%" in text:
        raise argparse.ArgumentTypeError(f"{text!r} names an interface: a packet has none; see --filter-ifname")
    single = network.prefixlen == network.max_prefixlen
    return f"host {network.network_address}" if single else f"net {network}"


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 0xFFFF:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number up to 65535")
    return int(text)


def _protocol(text: str) -> str:
    if text in _PROTOCOLS.split(", "):
        return text
    if re.fullmatch(r"[0-9]{1,3}", text) and int(text) <= 0xFF:
        return f"(ip proto {int(text)} or ip6 proto {int(text)})"
    raise argparse.ArgumentTypeError(f"{text!r} is no protocol: a number up to 255, or {_PROTOCOLS}")


class _Help(argparse.RawDescriptionHelpFormatter):
    """All flags in one column, all explanations in another; no wider than is easily read."""

    def __init__(self, prog: str, **more: Any) -> None:
        import shutil

        width = min(shutil.get_terminal_size().columns, 80) - 1
        super().__init__(prog, max_help_position=31, width=width, **more)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if action.type is _boolean:
            return ", ".join(action.option_strings)
        return super()._format_action_invocation(action)


def parser() -> _Parser:
    p = _Parser(
        prog="pwru",
        usage="pwru [FLAG ...] [PCAP-FILTER]",
        description="Packet, where are you? Shows the way of packets through the Linux kernel,\n"
        "function by function, and where and why they are dropped.",
        epilog=_EPILOG,
        formatter_class=_Help,
        add_help=False,
        allow_abbrev=False,
    )

    def flag(
        group: argparse._ActionsContainer, name: str, text: str, *aliases: str, default: bool | str = False
    ) -> None:
        group.add_argument(
            name, *aliases, type=_boolean, nargs="?", const=True, default=default, metavar="true|false", help=text
        )

    packets = p.add_argument_group("which packets (all that is given has to hold)")
    packets.add_argument(
        "pcap_filter",
        nargs="*",
        metavar="PCAP-FILTER",
        help="in the language of tcpdump, pcap-filter(7); all words are one filter",
    )
    for name, metavar, kind, text in (
        ("--src-ip", "ADDR[/LEN]", _address, "from this address or network"),
        ("--dst-ip", "ADDR[/LEN]", _address, "to this address or network"),
        ("--sport", "PORT", _port, "from this port"),
        ("--dport", "PORT", _port, "to this port"),
        ("--proto", "PROTO", _protocol, "of this protocol: tcp, udp, icmp, icmp6, arp and some more, or a number"),
    ):
        packets.add_argument(name, metavar=metavar, type=kind, help=text)
    packets.add_argument(
        "--filter-netns",
        metavar="NETNS",
        help="in this network namespace: a path such as /proc/PID/ns/net, or inode:N",
    )
    packets.add_argument(
        "--filter-ifname",
        metavar="NAME",
        help="on this interface, of --filter-netns or here",
    )
    packets.add_argument(
        "--filter-mark", metavar="MARK[/MASK]", type=_mark, default=(0, 0), help="with this skb mark (0 is off)"
    )
    packets.add_argument(
        "--filter-skb-expr",
        metavar="EXPR",
        help="with such fields: 'skb->len > 1000 && skb->mark & 0xff == 1' is C, but & binds tighter than ==",
    )

    for layer, what in (("l2", "Ethernet"), ("l3", "IP")):
        packets.add_argument(
            f"--filter-tunnel-pcap-{layer}",
            metavar="F",
            type=str.strip,
            default="",
            help=f"of packets in a tunnel, only those that carry this: a PCAP-FILTER, from {what} on",
        )
    packets.add_argument(
        "--filter-pid",
        metavar="PID",
        type=_pid,
        default=0,
        help="while this process runs: what it sends, not all that it gets",
    )
    packets.add_argument("--filter-comm", metavar="NAME", type=_comm, help="while a process of this name runs")
    packets.add_argument(
        "--filter-drop-reason",
        metavar="A,B",
        action=_Extend,
        type=_names,
        default=(),
        help="only where they are dropped, and only for these reasons (NO_SOCKET; any)",
    )

    which = p.add_argument_group("which functions")
    functions = which.add_mutually_exclusive_group()
    functions.add_argument("--filter-func", metavar="RE", help="only those whose whole name matches this regex")
    flag(functions, "--all-kprobes", "all that take a packet: the default", default=argparse.SUPPRESS)
    which.add_argument(
        "--kmods",
        metavar="A,B",
        action=_Extend,
        type=_names,
        default=(),
        help="also those of these loaded kernel modules",
    )
    flag(which, "--all-kmods", "also those of all kernel modules, and of each that loads while tracing")

    how = p.add_argument_group("how to trace")
    how.add_argument(
        "--backend",
        choices=BACKENDS,
        metavar="NAME",
        help=f"how to attach to the kernel: {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}; default: the best that works",
    )
    how.add_argument(
        "--filter-kprobe-batch",
        metavar="N",
        type=_size,
        default=10,
        help="kprobes to define in one write(2); default: 10",
    )
    how.add_argument(
        "--ring-buffer-size",
        metavar="SIZE",
        type=_bytes,
        help="room for events on their way, in bytes or as 512K, 8M; rounded up to a power of two; "
        "default: 1/256 of the memory, 4M to 64M",
    )
    how.add_argument(
        "--kernel-btf", metavar="FILE", help="BTF of this kernel: raw, or an ELF vmlinux with a .BTF section"
    )
    how.add_argument("--ready-file", metavar="FILE", help="create FILE once everything is attached")

    output = p.add_argument_group("output")
    flag(output, "--output-json", "one JSON object a line; with --check, one object", "--json")
    flag(output, "--output-meta", "namespace, mark, interface, protocol, MTU, length; default: true", default=True)
    flag(output, "--output-tuple", "addresses and ports; default: true", default=True)
    flag(output, "--output-tcp-flags", "the flags of TCP, behind the protocol: (tcp:SYN|ACK)")
    flag(output, "--output-tunnel", "addresses and ports of what a tunnel's packet carries")
    flag(output, "--output-skb-cb", "the control block, as BPF programs of tc see it")
    flag(output, "--output-netns-names", "names of network namespaces, those in /run/netns")
    output.add_argument(
        "--netns-names-max-length", metavar="N", type=_name_width, default=16, help="of which N characters; default: 16"
    )
    flag(output, "--output-caller", "who called the function")
    flag(output, "--output-stack", "the kernel stack from the caller on, a function a line below the event")
    output.add_argument(
        "--output-skb-metadata",
        metavar="A,B",
        action=_Extend,
        type=_fields,
        default=(),
        help="values of up to 4 fields, such as 'skb->hash,skb->dev->mtu'",
    )
    flag(output, "--output-skb", "the whole struct sk_buff, as far as it is not 0")
    flag(output, "--output-skb-shared-info", "the same of its struct skb_shared_info")
    output.add_argument(
        "--output-payload",
        metavar="N",
        type=_payload,
        default=0,
        help=f"the first N bytes of the packet with its headers, up to {_MAX_PAYLOAD}; without N: {_PAYLOAD}",
    )
    output.add_argument(
        "--set-percpu-buf", metavar="N", type=_size, default=argparse.SUPPRESS, help="ignored: no such buffer is needed"
    )
    output.add_argument(
        "--timestamp",
        choices=_TIMESTAMPS,
        metavar="MODE",
        default="none",
        help=f"when: {', '.join(_TIMESTAMPS[:-1])} or {_TIMESTAMPS[-1]}; current: ns since boot, relative: ns since "
        "this packet's last event, absolute: the time of day; default: none",
    )
    output.add_argument(
        "--color",
        choices=_COLORS,
        metavar="WHEN",
        default="auto",
        help="drops red, the first line of a packet bold: auto (on a terminal), always or never; default: auto",
    )
    output.add_argument(
        "--output-limit-lines", metavar="N", type=_count, default=0, help="end after N events; default: 0, no limit"
    )
    flag(output, "--strict", "exit with 3 if events were lost or given up, or probe hits missed")
    output.add_argument("--output-file", metavar="FILE", help="append events to FILE, not to standard output")
    output.add_argument(
        "--output-file-max-size",
        metavar="MB",
        type=_size,
        default=argparse.SUPPRESS,
        help="before FILE grows larger, rename it by the time and begin a new one; default: 100",
    )
    output.add_argument(
        "--output-file-max-age",
        metavar="DAYS",
        type=_days,
        default=argparse.SUPPRESS,
        help="remove renamed files that are older; default: 0, never",
    )
    output.add_argument(
        "--output-file-max-backups",
        metavar="N",
        type=_count,
        default=argparse.SUPPRESS,
        help="keep only N renamed files; default: 0, all",
    )
    flag(output, "--output-file-compress", "compress renamed files (gzip)", default=argparse.SUPPRESS)

    about = p.add_argument_group("help")
    flag(about, "--check", "say what works here, and why the rest does not")
    flag(about, "--debug", "say what is done, and how long it takes")
    about.add_argument("--version", action="version", version=f"pwru {__version__}", help="say which pwru this is")
    about.add_argument("-h", "--help", action="help", help="say this")
    return p


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line: a page of usage would push what is wrong off the screen."""
        self.refuse(f"{message.removeprefix('argument ')}; pwru --help shows all flags")

    def refuse(self, message: str) -> NoReturn:
        say(f"pwru: {printable(message)}")
        self.exit(2)

    def no_such_flag(self, word: str) -> NoReturn:
        from difflib import get_close_matches

        # Flags are long and begin alike: what is less close than this is something else.
        near = get_close_matches(word, self._option_string_actions, n=2, cutoff=0.82)
        if not near:
            self.error(f"no such flag: {word}")
        self.refuse(f"no such flag: {word}; did you mean {' or '.join(near)}?")


def _parse(p: _Parser, arguments: list[str]) -> argparse.Namespace:
    """Parses with booleans as users know them: a bare flag is true, a value needs `=`.

    argparse would take the word after `--output-json` for its value, and that is the pcap filter. It also takes but one
    row of words for the filter; here flags may stand between them.
    """
    booleans = {name for action in p._actions if action.type is _boolean for name in action.option_strings}
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words = [f"{word}=true" if word in booleans else word for word in arguments[:end]]
    for number, word in enumerate(words):
        # Its value may be missing: no filter begins with a number alone.
        if word == "--output-payload" and not "".join(words[number + 1 : number + 2]).isdecimal():
            words[number] = f"{word}={_PAYLOAD}"
    values, rest = p.parse_known_args(words)
    for word in rest:
        if word.startswith("-"):
            p.no_such_flag(word.partition("=")[0])
    values.pcap_filter = [*values.pcap_filter, *rest, *arguments[end + 1 :]]
    return values


def options(arguments: list[str] | None = None) -> Options:
    """Exits with status 2 and a line on stderr if the command line is wrong."""
    p = parser()
    values = vars(_parse(p, sys.argv[1:] if arguments is None else arguments))
    if values["output_file"] is None:
        for name in values:
            if name.startswith("output_file_"):
                p.error(f"--{name.replace('_', '-')} says what becomes of --output-file, which is not there")
    if not values.pop("all_kprobes", True):
        p.error("--all-kprobes=false: name the functions that are wanted with --filter-func")
    if values["filter_drop_reason"]:
        if values["backend"] not in (None, "tracepoint"):
            p.error("--filter-drop-reason is about a tracepoint: there is no other --backend for it")
        if values["filter_func"] or values["kmods"] or values["all_kmods"]:
            p.error("--filter-drop-reason is about a tracepoint: it goes without --filter-func and modules")
        values["backend"], values["filter_func"] = "tracepoint", "kfree_skb"
    if values["output_netns_names"] and not values["output_meta"]:
        p.error("--output-netns-names names what --output-meta=false leaves out")
    if len(fields := values["output_skb_metadata"]) > _MAX_FIELDS:
        p.error(f"--output-skb-metadata: {len(fields)} fields; up to {_MAX_FIELDS} can be printed")
    if len(set(fields)) < len(fields):
        p.error(f"--output-skb-metadata: a field is there twice: {', '.join(fields)}")
    values.pop("set_percpu_buf", None)
    mark, mask = values.pop("filter_mark")
    typed = " ".join(values.pop("pcap_filter")).strip()
    primitives = [form.format(value) for name, form in _PRIMITIVES.items() if (value := values.pop(name)) is not None]
    if typed and primitives:
        whole = " and ".join([f"({typed})", *primitives])
        values["pcap_typed"], values["pcap_primitives"] = typed, tuple(primitives)
    else:
        whole = typed or " and ".join(primitives)
    return Options(pcap_filter=whole, filter_mark=mark, filter_mark_mask=mask, **values)


def main(arguments: list[str] | None = None) -> int:
    """The command `pwru`: its exit status. 1: an error, or nothing works; 2: a wrong command line; 3: --strict."""
    chosen = options(arguments)
    try:
        if chosen.check:
            from pwru.commands.check import check

            return 0 if check(chosen) else 1
        compiler = None
        inner = chosen.filter_tunnel_pcap_l2, chosen.filter_tunnel_pcap_l3
        if chosen.pcap_filter or any(inner):
            from pwru.filter.packet.pcap import Compiler, Filter

            compiler = Compiler(Filter(chosen.pcap_typed or chosen.pcap_filter, chosen.pcap_primitives, *inner))
        from pwru.commands.trace import trace

        if not trace(chosen, compiler) and chosen.strict:
            return 3
    except PwruError as error:
        say(f"pwru: {printable(str(error))}")
        return 1
    except BrokenPipeError:
        return 3 if chosen.strict else 0  # who read standard output has seen enough, or died
    return 0


def run() -> NoReturn:
    """main() as a process: what it had open is the kernel's to clean up, so the interpreter need not tidy up first."""
    status: int | str | None
    try:
        status = main()
    except SystemExit as leaving:  # argparse: --help, --version, a wrong command line
        status = leaving.code
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(int(status or 0))
