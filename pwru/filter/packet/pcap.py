"""pcap-filter(7) expressions, compiled to classic BPF by libpcap: the system's, or that of the Python package."""

import marshal
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ctypes import CDLL, byref, c_ubyte
from itertools import pairwise
from types import ModuleType
from typing import NamedTuple, Self

from pwru import vendored
from pwru.errors import PwruError

from . import Filter, Insn
from .classic import impossible_offset, within_reach

# pcap-linktype(7): the values that pcap_open_dead(3PCAP) takes; DLT_RAW is 12 on Linux (101 is for files)
DLT_EN10MB, DLT_RAW = 1, 12

_SNAPLEN = 262144  # what an accepting filter returns; tcpdump's default
_PCAP_NETMASK_UNKNOWN = 0xFFFFFFFF
_OPTIMIZABLE = 1 << 15  # instructions
_QUOTED = 200  # characters of an expression in a message
_LONG = 2000  # ms
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h

# What libpcap takes from the kernel's knowledge of a captured packet, by loads at SKF_AD_OFF (include/uapi/linux/
# filter.h) and beyond, which are in no packet. Only taps set skb->pkt_type to PACKET_OUTGOING, in clones of their own.
_INSTEAD = {
    "inbound": "name functions that only incoming packets reach: `functions` '__netif_receive_skb.*'",
    "outbound": "name the function that only outgoing packets reach: `functions` 'dev_hard_start_xmit'",
    "ifindex": "name the interface: `ifname`",
}
# libpcap also compiles these for packets without a link-layer header, and takes the bytes of the IP header instead.
_LINK_BYTES = re.compile(r"\b(?:ether|link|ppp|slip|fddi|tr|wlan)\s*\[")
# What may agree with a shorthand where libpcap would look for it elsewhere: after a tag or an extension header.
_LOOKS_FURTHER = re.compile(r"\[|\b(?:ah|mpls|pppoes|proto|vlan)\b")


class Programs(NamedTuple):
    """Classic BPF for packets with and without a link-layer header, and for the packet inside a tunnel.

    Empty for an empty expression. `l3` is empty, too, if libpcap cannot compile the expression for such packets.
    """

    l2: Sequence[Insn]
    l3: Sequence[Insn]
    inner_l2: Sequence[Insn] = ()
    inner_l3: Sequence[Insn] = ()


def compile_filter(wanted: Filter) -> Programs:
    """Compile in this process. Raises PwruError if libpcap refuses an expression or is missing, or one is too long.

    The typed part must be a filter by itself: an error is then about that part alone, and it cannot close the
    parentheses around it. There is no program without a link-layer header for what names one (`ether host`, `vlan`).
    Primitives that find_shorthand() knows are joined to what libpcap made of the others.
    """
    if "\0" in "".join((wanted.expression, wanted.inner_l2, wanted.inner_l3)):
        raise PwruError("pcap filter: it has a NUL, which ends it for libpcap")
    if wanted.typed and wanted.primitives:
        compile_expression(wanted.typed, DLT_EN10MB)
    l2, l3 = _compile_joined(wanted) if wanted.primitives else _compile_both(wanted.typed)
    inner_l2 = _compile_inner("tunnel_l2", wanted.inner_l2, DLT_EN10MB)
    return Programs(l2, l3, inner_l2, _compile_inner("tunnel_l3", wanted.inner_l3, DLT_RAW))


def _compile_both(expression: str) -> tuple[list[Insn], list[Insn]]:
    """Return the programs for packets with and without a link-layer header."""
    l2, l3 = list[Insn](), list[Insn]()
    if expression:
        l2 = compile_expression(expression, DLT_EN10MB)
        with suppress(PwruError):
            l3 = compile_expression(expression, DLT_RAW)
    return l2, l3


def _compile_joined(wanted: Filter) -> tuple[list[Insn], list[Insn]]:
    from .shorthand import find_shorthand, join

    known = {primitive: find_shorthand(primitive) for primitive in wanted.primitives}
    shorthands = [shorthand for shorthand in known.values() if shorthand]
    if not _LOOKS_FURTHER.search(wanted.expression):
        compile_expression(wanted.expression, DLT_EN10MB)  # they may exclude each other
    rest = wanted._replace(primitives=tuple(primitive for primitive, shorthand in known.items() if not shorthand))
    l2, l3 = _compile_both(rest.expression)
    if shorthands:
        l2 = join(shorthands, l2, bare=False)
        if l3 or not rest.expression:
            l3 = join(shorthands, l3, bare=True)
    return l2, l3


class Compiler:
    """compile_filter() in a child process, while this process does something else.

    For a command that must start quickly: importing libpcap takes 100 to 150 ms, a third of the start, and memory. The
    child ends with this process.
    """

    def __init__(self, wanted: Filter) -> None:
        """Raises OSError if there can be no child."""
        self._pipe, result = os.pipe()
        parent = os.getpid()
        try:
            self._child = os.fork()
        except OSError:
            os.close(self._pipe)
            os.close(result)
            raise
        if not self._child:
            _end_with(parent, keep=result)
            with os.fdopen(result, "wb") as file:
                try:
                    answer: list[list[tuple[int, ...]]] | str = [
                        list(map(tuple, program)) for program in compile_filter(wanted)
                    ]
                except PwruError as error:
                    answer = str(error)
                except BaseException as error:
                    answer = f"pcap filter: {type(error).__name__}: {error}"
                file.write(marshal.dumps(answer))
                file.flush()
                os._exit(0)
        os.close(result)

    def programs(self, stop_fd: int = -1, on_waiting: Callable[[], None] = lambda: None) -> Programs:
        """Wait for the result; to be called once. Raises PwruError like compile_filter(), and if the child died.

        Once `stop_fd` is readable, the child is killed. `on_waiting` is called if it takes long.
        """
        ready = select.poll()
        ready.register(self._pipe, select.POLLIN)
        if stop_fd >= 0:
            ready.register(stop_fd, select.POLLIN)
        events = ready.poll(_LONG)
        if not events:
            on_waiting()
            events = ready.poll()
        if all(fd != self._pipe for fd, _ in events):
            os.kill(self._child, signal.SIGKILL)
        with os.fdopen(self._pipe, "rb") as file:
            answer = file.read()
        _, status = os.waitpid(self._child, 0)
        if status:
            raise PwruError(f"pcap filter: compiling it failed (status {os.waitstatus_to_exitcode(status)})")
        programs = marshal.loads(answer)
        if isinstance(programs, str):
            raise PwruError(programs)
        return Programs(*([Insn(*insn) for insn in program] for program in programs))


def _end_with(parent: int, keep: int) -> None:
    """Have this process killed when its parent ends, and keep nobody waiting for the end of the parent's output.

    `keep` is a descriptor that stays open.
    """
    CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        os._exit(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in {0, 1, 2} - {keep}:
        os.dup2(null, fd)


def _compile_inner(parameter: str, expression: str, dlt: int) -> list[Insn]:
    try:
        return compile_expression(expression, dlt) if expression else []
    except PwruError as error:
        raise PwruError(f"`{parameter}`: {error}") from None


def compile_expression(expression: str, dlt: int) -> list[Insn]:
    """Return the optimized program of `expression` for the link type `dlt`.

    Raises PwruError with libpcap's own message, and with the place of a syntax error; also for a load that is in no
    packet, even if the optimizer finds that it does not matter (`inbound or outbound`).
    """
    pcap = _libpcap()
    plain, _ = _compile(pcap, expression, dlt, optimize=0)
    # The optimizer's memory grows with the square of the program's length: gigabytes, on a machine with other work.
    if len(plain) > _OPTIMIZABLE:
        raise PwruError(f"pcap filter: too long: {len(plain)} instructions; use net or portrange")
    insns, error = _compile(pcap, expression, dlt)
    if error and "syntax error" in error:
        error += _place(pcap, expression, dlt)
    elif (offset := impossible_offset([*plain, *insns])) is not None:
        error = _impossible(expression, offset)
    elif dlt == DLT_RAW and (bytes_of := _LINK_BYTES.search(expression)):
        error = f"`{bytes_of[0]}…]`: there is no link-layer header"
    if error:
        short = expression if len(expression) <= _QUOTED else f"{expression[:_QUOTED]}…"
        raise PwruError(f"pcap filter {short!r}: {error}")
    return insns


def runner(insns: Sequence[Insn]) -> Callable[[bytes, int], bool]:
    """Return what runs a program on the first bytes of a packet of so many; an empty program accepts none.

    bpf_filter(3PCAP) is libpcap's own interpreter.
    """
    if not insns:
        return lambda _data, _length: False
    pcap, insns = _libpcap(), within_reach(insns)
    code = (pcap.bpf_insn * len(insns))(*[pcap.bpf_insn(*insn) for insn in insns])

    def run(data: bytes, length: int) -> bool:
        packet = (c_ubyte * len(data)).from_buffer_copy(data)
        return bool(pcap.bpf_filter(code, packet, length, len(data)))

    return run


def _impossible(expression: str, offset: int) -> str:
    for word, instead in _INSTEAD.items():
        if re.search(rf"\b{word}\b", expression):
            return f"`{word}` is not in the packet; {instead}"
    return f"it loads from offset {offset:#x}, which no packet has"


def _compile(pcap: ModuleType, expression: str, dlt: int, optimize: int = 1) -> tuple[list[Insn], str]:
    handle = pcap.open_dead(dlt, _SNAPLEN)
    program = pcap.bpf_program()
    try:
        if pcap.compile(handle, byref(program), os.fsencode(expression), optimize, _PCAP_NETMASK_UNKNOWN) != 0:
            return [], pcap.geterr(handle).decode(errors="replace")
        insns = [Insn(i.code, i.jt, i.jf, i.k) for i in program.bf_insns[: program.bf_len]]
        pcap.freecode(byref(program))
        return insns, ""
    finally:
        pcap.close(handle)


def _place(pcap: ModuleType, expression: str, dlt: int) -> str:
    """Find a syntax error, which libpcap does not locate: it is after the longest start that is a filter by itself."""
    words = list(re.finditer(r"[()]|[^\s()]+", expression))
    for good, bad in reversed(list(pairwise(words))):
        if not _compile(pcap, expression[: good.end()], dlt)[1]:
            return f", at or after {expression[bad.start() :]!r}"
    return ""


def _libpcap() -> ModuleType:
    # Most of the import's time goes into packages that are not needed here: pkg_about for its own version and authors,
    # chardet to guess the encoding of files, typing_extensions for what Python has. Stand-ins do, during the import.
    stand_ins: dict[str, dict[str, object]] = {
        "pkg_about": {"about": lambda *_: None},
        "chardet": {},
        "typing_extensions": {"Self": Self},
    }
    absent = stand_ins.keys() - sys.modules.keys()
    for name in absent:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(stand_ins[name])
    import ctypes.util

    find_library = ctypes.util.find_library
    ctypes.util.find_library = lambda name: _find_pcap() or find_library(name)
    try:
        with vendored.importable():
            import libpcap
    except OSError as error:
        raise PwruError(
            "a pcap filter needs libpcap, which this system lacks: install it (Debian, Ubuntu: apt install libpcap0.8)"
        ) from error
    except ImportError as error:
        raise PwruError(f"a pcap filter needs the Python package libpcap: pip install libpcap ({error})") from error
    finally:
        ctypes.util.find_library = find_library
        for name in absent:
            del sys.modules[name]
    return libpcap  # type: ignore[no-any-return, unused-ignore]


def _find_pcap() -> str | None:
    """Return the library that is taken. Without ctypes.util.find_library(): ldconfig takes time, and may be missing."""
    for name in _candidates():
        with suppress(OSError):
            CDLL(name)
            return name
    return None


def _candidates() -> Iterator[str]:
    """Yield the system's library, then that of the Python package `libpcap`, which it uses only if told to."""
    yield from ("libpcap.so.1", "libpcap.so.0.8")
    from importlib.util import find_spec

    package = find_spec("libpcap")
    for folder in (package and package.submodule_search_locations) or ():
        yield f"{folder}/_platform/linux/{os.uname().machine}/tcpdump/libpcap.so"
