"""fentry: a BPF trampoline for each function.

Each costs a load, an update of ftrace when it comes and grace periods when it goes, so this is for few functions, and
for kernels that have nothing better for many. Each gets its own copy of one loaded template program, in which constants
say what is to be known of the function (see bpf/pwru.bpf.c).

A trampoline goes within 36 to 150 ms, one after the other however many threads ask for it. So the programs are told to
do nothing any more, and a child process is left behind that does nothing but end, which closes its descriptors.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import struct
from typing import TYPE_CHECKING

from pwru import libbpf
from pwru.ebpf import replace_constant
from pwru.live import rlimits as limits
from pwru.live.backends import Probes, Progress, Refused, why
from pwru.live.backends.trampoline import module_btf, split

if TYPE_CHECKING:
    from pwru.kernel.functions import Target
    from pwru.libbpf import Link, Object

_CONSTANT = 0x70777275000000F0
_ADDRESS = 0x7077727600000000
_NO_ARG = 15
_POINTER = 0x100
_PATIENCE = 16  # functions that are refused before it is thought that all will be
_OTHER_FILES = 16  # that are opened later

# include/uapi/linux/membarrier.h
_MEMBARRIER_CMD_GLOBAL = 1
_NR_MEMBARRIER = {"x86_64": 324, "aarch64": 283}


class Backend(Probes):
    name = "fentry"
    program = "on_fentry"
    kind = libbpf.BPF_PROG_TYPE_TRACING, libbpf.BPF_TRACE_FENTRY

    def unavailable(self) -> str | None:
        if not self.sites.has_attach_type("BPF_TRACE_FENTRY"):
            return "this kernel is older than BPF trampolines (Linux 5.5)"
        return None

    def attach(self, bpf: Object, progress: Progress) -> None:
        targets, self.left_out = split(self.sites, self.sites.targets)
        self._stopped = bpf.map(".data.stopped")
        self._attach(bpf, targets, progress)
        self.attached = len(self.links)
        if not self.links:
            raise Refused(f"attaching is refused ({self.skipped[0][1]})")

    def attach_more(self, bpf: Object, targets: list[Target]) -> int:
        targets, _ = split(self.sites, targets)
        before = len(self.links)
        self._attach(bpf, targets, lambda _done, _total: None)
        return len(self.links) - before

    def _attach(self, bpf: Object, targets: list[Target], progress: Progress) -> None:
        files = len(os.listdir("/proc/self/fd")) + 2 * len(targets) + _OTHER_FILES
        if not limits.at_least(resource.RLIMIT_NOFILE, files):
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            raise Refused(
                f"{len(targets)} functions take two open files each, of which {hard} are allowed;"
                f" `ulimit -n {files}` in a root shell, or a narrower --filter-func, helps"
            )
        template = bpf.program(self.program).insns()
        with contextlib.ExitStack() as opened:
            btfs: dict[str | None, int] = {}
            for number, target in enumerate(targets):
                try:
                    if target.module not in btfs:
                        btfs[target.module] = opened.enter_context(module_btf(target.module))
                    # Before its first event.
                    self.by_address[target.address] = target
                    self.links.append(self._link(template, target, btfs[target.module]))
                except OSError as error:
                    self.skipped.append((target.name, why(error)))
                    if error.errno == errno.EPERM or (not self.links and number == _PATIENCE):
                        raise Refused(f"attaching is refused ({why(error)})") from None
                progress(number + 1, len(targets))

    def _link(self, template: bytes, target: Target, btf_fd: int) -> Link:
        fd = self._load_copy(specialize(template, target), btf_id=target.btf_id, btf_fd=btf_fd)
        try:
            return libbpf.link_fentry(fd)
        finally:
            os.close(fd)  # the link holds the program

    def detach(self) -> None:
        """Leaves the links to a child process that ends, and so closes them, once they are closed here."""
        if not self.links:
            return
        self._stopped.update(bytes(4), struct.pack("=I", 1))
        _wait_for_programs()
        self.missed += self._count_missed()
        links = {link.fd for link in self.links}
        read_end, write_end = os.pipe()
        try:
            child = os.fork()
        except OSError:  # then it takes its time
            child = -1
        if not child:
            try:
                # Among the rest is the output, of which somebody awaits the end.
                for fd in {int(name) for name in os.listdir("/proc/self/fd")} - links - {read_end}:
                    with contextlib.suppress(OSError):
                        os.close(fd)
                os.read(read_end, 1)
            finally:
                os._exit(0)  # gives back the memory before it closes files
        os.close(read_end)
        for link in self.links:
            link.close()
        self.links = []
        os.close(write_end)


def _wait_for_programs() -> None:
    """Until those programs have ended that run at this moment: membarrier(2) waits for an RCU grace period.

    It fails where CPUs are left alone (nohz_full); then one that matches just now may be missing in the output.
    """
    syscall = ctypes.CDLL(None).syscall
    syscall(ctypes.c_long(_NR_MEMBARRIER[os.uname().machine]), ctypes.c_int(_MEMBARRIER_CMD_GLOBAL), 0, 0)


def specialize(template: bytes, target: Target) -> bytes:
    """The template's instructions with the constants of this function: FENTRY_TEMPLATE in bpf/pwru.bpf.c."""
    reason = target.reason_arg - 1 if target.has_reason else _NO_ARG
    what = target.skb_arg - 1 | reason << 4 | (_POINTER if target.double_pointer else 0)
    return replace_constant(replace_constant(template, _CONSTANT, what), _ADDRESS, target.address)
