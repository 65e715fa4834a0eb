"""What the traced BPF programs call: helpers, kernel functions and operations of maps, by trampolines of their own.

A program's instructions, as the kernel has them, say what it calls. So only that is traced, and only while a traced
program has called it. A trampoline knows what was returned, and it nests with the probes of the run: what our own
programs call is no hit that a probe misses. What on_helper() itself calls is left out, as it would call itself.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from typing import TYPE_CHECKING

from pwru import libbpf
from pwru.ebpf import called, maps_passed, replace_constant
from pwru.errors import PwruError, abbreviate
from pwru.kernel.helpers import BASE, INLINED_TYPES, MAX_ARGS, Callee, callee
from pwru.kernel.kallsyms import KallsymsError
from pwru.limits import at_least
from pwru.live import rlimits
from pwru.live.backends.how import reason_of
from pwru.live.backends.trampoline import module_btf
from pwru.live.names import SeenHelper, SeenProgram

if TYPE_CHECKING:
    from pwru.kernel.kallsyms import Symbol
    from pwru.kernel.kernel import Kernel
    from pwru.libbpf import Link
    from pwru.live.program import Program

TEMPLATE = "on_helper"
_FILES = 2  # that a traced function takes
_REST = 64  # files that are opened otherwise


class NotTraced(Exception):
    """Why a function cannot be traced."""


class Helpers:
    """What the BPF programs of one run call. Nothing here ends a trace: what cannot be traced is said, once."""

    def __init__(
        self, kernel: Kernel, message: Callable[[str], None], names: dict[int, SeenProgram | SeenHelper]
    ) -> None:
        """`names`: is given what is traced, by its address."""
        self._kernel = kernel
        self._message = message
        self._program: Program
        self._base = 0
        self._own: set[int] = set()
        self._known: set[int] = set()  # distances of what was looked at
        self._inlined: set[int] = set()  # maps that were said to be so
        self.links: list[Link] = []
        self._names = names
        self._attached: set[str] = set()

    def prepare(self, program: Program) -> bool:
        """Get ready to attach(); False, and said, if nothing can be attached."""
        from pwru.libbpf import programs

        self._program = program
        try:
            self._base = self._kernel.kallsyms.find({BASE})[BASE][0]
            for fd in program.fds():
                self._own |= called(programs.instructions(fd))
        except (KallsymsError, KeyError, OSError) as error:
            self._message(f"Not traced: what BPF programs call: {_explain(error)}.")
            return False
        return True

    def attach(self, insns: list[bytes]) -> None:
        """Attach to what these programs call, given their instructions, and was not attached to before."""
        new = {distance for program in insns for distance in called(program)} - self._known
        self._known |= new
        names: list[str] = []
        refused: dict[str, list[str]] = {}
        at_least(resource.RLIMIT_NOFILE, (len(self.links) + len(new)) * _FILES + _REST)
        for distance in sorted(new):
            symbol = self._kernel.symbol(self._base + distance)
            name = symbol.name if symbol else hex(self._base + distance)
            try:
                self._attach(symbol, self._base + distance)
            except NotTraced as error:
                refused.setdefault(str(error), []).append(name)
            except OSError as error:
                refused.setdefault(_explain(error), []).append(name)
            else:
                names.append(name)
        if names:
            several = "s" * (len(names) != 1)
            self._message(f"Attached to {len(names)} function{several} that BPF programs call: {abbreviate(names)}.")
        for reason, of in refused.items():
            self._message(f"Not traced, although BPF programs call {abbreviate(of)}: {reason}.")
        self._tell_inlined(insns)

    def _attach(self, symbol: Symbol | None, address: int) -> None:
        if symbol is None or symbol.offset:
            raise NotTraced("the kernel has no symbol there")
        try:
            btf = self._kernel.module_btf(symbol.module) if symbol.module else self._kernel.btf
            function = callee(btf, symbol.name, address)
        except PwruError as error:
            raise NotTraced(str(error)) from None
        if function is None:
            raise NotTraced("BTF does not have it")
        if address - self._base in self._own and not function.operation:
            raise NotTraced("the tracer itself calls it")
        if function.nargs > MAX_ARGS:
            raise NotTraced(f"it has more than {MAX_ARGS} arguments")
        self._names[address] = SeenHelper(symbol.name)  # before its first event
        self._attached.add(symbol.name)
        with module_btf(symbol.module) as btf_fd:
            self.links.append(self._link(function, btf_fd))

    def _link(self, function: Callee, btf_fd: int) -> Link:
        wire = self._program.wire
        insns = replace_constant(
            self._program.insns(TEMPLATE), wire.constant("HELPER_TEMPLATE"), arguments(wire.constant, function)
        )
        insns = replace_constant(insns, wire.constant("HELPER_ADDRESS"), function.address)
        fd = rlimits.with_memlock(
            self._kernel,
            lambda: libbpf.prog_load(
                libbpf.BPF_PROG_TYPE_TRACING,
                insns,
                expected_attach_type=libbpf.BPF_TRACE_FEXIT if function.at_exit else libbpf.BPF_TRACE_FENTRY,
                attach_btf_id=function.btf_id,
                attach_btf_obj_fd=btf_fd,
            ),
        )
        try:
            return libbpf.link_fentry(fd)
        finally:
            os.close(fd)

    def _tell_inlined(self, insns: list[bytes]) -> None:
        """Say in which maps lookups cannot be seen, if these programs have such maps."""
        from pwru.libbpf import programs

        names = []
        for map_id in {map_id for program in insns for map_id in maps_passed(program)} - self._inlined:
            self._inlined.add(map_id)
            try:
                used = programs.map_use(map_id)
            except OSError:
                continue  # gone meanwhile
            if (lookup := INLINED_TYPES.get(used.map_type)) and lookup not in self._attached:
                names.append(used.name)
        if names:
            self._message(
                f"Not seen: lookups in map{'s' * (len(names) != 1)} {abbreviate(sorted(names))}, which the kernel does"
                " within the programs, as in all arrays."
            )


def arguments(constant: Callable[[str], int], function: Callee) -> int:
    """Return what HELPER_TEMPLATE in bpf/pwru.bpf.c stands for."""
    none, operation = constant("NO_ARG"), function.operation
    args = function.nargs << 8
    if operation is None:
        return args | none << 4 | none
    args |= none if operation.key is None else operation.key
    args |= (none if operation.value is None else operation.value) << 4
    flags = {
        "HELPER_MAP": True,
        "HELPER_KEY_ITSELF": operation.by_value,
        "HELPER_LOOKUP": operation.looks_up,
        "HELPER_ELEMENT": operation.element,
        "HELPER_TAKES_OUT": operation.takes_out,
    }
    return args | sum(constant(name) for name, is_set in flags.items() if is_set)


def _explain(error: Exception) -> str:
    if isinstance(error, KallsymsError):
        return str(error)
    if isinstance(error, KeyError):
        return f"the kernel has no symbol {BASE}"
    if isinstance(error, OSError) and error.errno == errno.EBUSY:
        return "it is notrace, or another tracer is in its place"
    return reason_of(error) if isinstance(error, OSError) else str(error)
