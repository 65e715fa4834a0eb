"""pcap-filter(7) expressions to classic BPF, by the system's libpcap."""

from __future__ import annotations

import marshal
import os
import re
import sys
from collections.abc import Sequence
from ctypes import byref
from itertools import pairwise
from types import ModuleType
from typing import NamedTuple, Self

from pwru.errors import PwruError

# pcap-linktype(7): the values that pcap_open_dead(3PCAP) takes; DLT_RAW is 12 on Linux (101 is for files)
DLT_EN10MB, DLT_RAW = 1, 12

_SNAPLEN = 262144  # what an accepting filter returns; tcpdump's default
_PCAP_NETMASK_UNKNOWN = 0xFFFFFFFF
_SHORT_ENOUGH = 8192  # characters; what is longer is looked at before it is optimized
_OPTIMIZABLE = 1 << 15  # instructions
_QUOTED = 200  # characters of an expression in a message


class Insn(NamedTuple):
    """struct bpf_insn of pcap/bpf.h."""

    code: int
    jt: int
    jf: int
    k: int


class Programs(NamedTuple):
    """What an expression is for packets with and without a link-layer header; empty: libpcap has none.

    Then those for what a tunnel's packet carries, each an expression of its own; empty: there is none.
    """

    l2: Sequence[Insn]
    l3: Sequence[Insn]
    inner_l2: Sequence[Insn] = ()
    inner_l3: Sequence[Insn] = ()


class Compiler:
    """compile_filter() in a child process, which works while this one does something else.

    To load libpcap takes a third of the time that pwru needs to start, and the memory for it is the child's.
    """

    def __init__(self, expression: str, typed: str = "", inner_l2: str = "", inner_l3: str = "") -> None:
        self.says_vlan = re.search(r"\bvlan\b", expression) is not None
        self._pipe, result = os.pipe()
        self._child = os.fork()
        if not self._child:
            with os.fdopen(result, "wb") as file:
                try:
                    programs = compile_filter(expression, typed) if expression else Programs([], [])
                    programs = programs._replace(
                        inner_l2=_compile_inner("l2", inner_l2, DLT_EN10MB),
                        inner_l3=_compile_inner("l3", inner_l3, DLT_RAW),
                    )
                    answer: list[list[tuple[int, ...]]] | str = [list(map(tuple, program)) for program in programs]
                except PwruError as error:
                    answer = str(error)
                except BaseException as error:
                    answer = f"pcap filter: {type(error).__name__}: {error}"
                file.write(marshal.dumps(answer))
                file.flush()
                os._exit(0)
        os.close(result)

    def programs(self) -> Programs:
        """Waits for the result; to be asked for once. Raises PwruError as compile_filter(), and if the child died."""
        with os.fdopen(self._pipe, "rb") as file:
            answer = file.read()
        _, status = os.waitpid(self._child, 0)
        if status:
            raise PwruError(f"pcap filter: compiling it failed (status {os.waitstatus_to_exitcode(status)})")
        found = marshal.loads(answer)
        if isinstance(found, str):
            raise PwruError(found)
        return Programs(*([Insn(*insn) for insn in program] for program in found))


def compile_filter(expression: str, typed: str = "") -> Programs:
    """The classic BPF programs of a pcap-filter(7) expression.

    `typed` is the part of it that somebody wrote, and must be a filter by itself: an error in it is then about that
    alone, and it cannot end the parentheses that it stands in.
    For what speaks of a link-layer header (`ether host`, `vlan`) libpcap has no program without one.
    Raises PwruError: libpcap refuses the expression or is not there; it is too long.
    """
    if typed:
        compile_expression(typed, DLT_EN10MB)
    l2 = compile_expression(expression, DLT_EN10MB)
    try:
        return Programs(l2, compile_expression(expression, DLT_RAW))
    except PwruError:
        return Programs(l2, [])


def _compile_inner(layer: str, expression: str, dlt: int) -> list[Insn]:
    """For what a tunnel's packet carries, from that layer on; empty for no expression."""
    try:
        return compile_expression(expression, dlt) if expression else []
    except PwruError as error:
        raise PwruError(f"--filter-tunnel-pcap-{layer}: {error}") from None


def compile_expression(expression: str, dlt: int) -> list[Insn]:
    """The classic BPF program of `expression` for the link type `dlt`, optimized.

    Raises PwruError with libpcap's own message, and with the place where a syntax error was found.
    """
    pcap = _libpcap()
    if len(expression) > _SHORT_ENOUGH:
        # The optimizer takes memory by the square of a program's length: gigabytes, on a machine that has other work.
        plain, _ = _compile(pcap, expression, dlt, optimize=0)
        if len(plain) > _OPTIMIZABLE:
            raise PwruError(f"pcap filter: too long: {len(plain)} instructions; use net or portrange")
    insns, error = _compile(pcap, expression, dlt)
    if error:
        where = _place(pcap, expression, dlt) if "syntax error" in error else ""
        raise PwruError(f"pcap filter {_short(expression)!r}: {error}{where}")
    return insns


def _short(expression: str) -> str:
    return expression if len(expression) <= _QUOTED else f"{expression[:_QUOTED]}…"


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
    """libpcap does not say where a syntax error is: it is after the longest beginning that is a filter by itself."""
    words = list(re.finditer(r"[()]|[^\s()]+", expression))
    for good, bad in reversed(list(pairwise(words))):
        if not _compile(pcap, expression[: good.end()], dlt)[1]:
            return f", at or after {expression[bad.start() :]!r}"
    return ""


def _libpcap() -> ModuleType:
    # Its import brings what it does not need here and what takes most of the time: pkg_about for its own version and
    # authors, chardet to guess the encoding of files, typing_extensions for what Python has. Stand-ins do.
    stand_ins: dict[str, dict[str, object]] = {
        "pkg_about": {"about": lambda *_: None},
        "chardet": {},
        "typing_extensions": {"Self": Self},
    }
    absent = stand_ins.keys() - sys.modules.keys()
    for name in absent:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(stand_ins[name])
    try:
        import libpcap
    except OSError as error:
        raise PwruError(
            "a pcap filter needs libpcap, which this system lacks: install it (Debian, Ubuntu: apt install libpcap0.8)"
        ) from error
    except ImportError as error:
        raise PwruError(f"a pcap filter needs the Python package libpcap: pip install libpcap ({error})") from error
    finally:
        for name in absent:
            del sys.modules[name]
    return libpcap  # type: ignore[no-any-return, unused-ignore]
