"""What a live trace is asked for: plain data, checked as far as that goes without the kernel."""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pwru.errors import PwruError, near
from pwru.filter.packet import Filter
from pwru.kernel.patterns import NamePattern
from pwru.live.backends import BACKENDS

MAX_PID = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h
MAX_COMM = 15  # bytes: TASK_COMM_LEN without its end
MAX_PAYLOAD = 1024  # bytes: what a record has room for
MAX_FOLLOWED = 1 << 20  # skbs: the kernel sets aside memory for all of them


class Request(NamedTuple):
    """One trace. Every default means "no such condition", or the best that works here.

    `filter`: a pcap-filter(7) for the packets. `netns`: as resolve_netns() takes it. `ifname` is an interface of it, or
    of this process's namespace. `mark` is compared under `mark_mask`. `skb_expr`: a C condition on fields of the skb,
    `xdp_expr` on those of a frame of XDP; each lets the other pass.
    `pid` and `comm` are of the task on the CPU; the former as /proc shows it. `drop_reasons`: as DropReasons.wanted()
    takes them; only drops are traced then.

    `functions`: a regular expression for whole names, also as they are printed. `modules`, `all_modules`: whose
    functions are traced besides those of vmlinux. `backend`: one of BACKENDS. `kprobe_batch`: kprobes per write(2).
    `ring_buffer_size` is in bytes. `kernel_btf`: a file with the kernel's BTF.

    `parts`: parts of the record (record.parts) by name, with the size in bytes of those that have none of their own.
    `tcp_flags`: tuples with the flags of TCP. `skb_metadata`, `xdp_metadata`: C expressions of the fields in the part
    `values`, of an skb and of a frame of XDP.

    `follow`: a packet that matched once is traced whatever becomes of it, up to `follow_limit` skbs at a time.
    `by_stack`: also where functions with other skbs, or those named in `without_skb`, run below one that has it.

    `trace_tc`: also the BPF programs that see an skb: of tc, cgroups, routes, sockets, netfilter. `trace_xdp`: also
    those of XDP. `trace_helpers`: also what these call: helpers, and operations of maps.
    """

    filter: Filter = Filter()
    netns: str | None = None
    ifname: str | None = None
    mark: int = 0
    mark_mask: int = 0
    skb_expr: str | None = None
    xdp_expr: str | None = None
    pid: int = 0
    comm: str | None = None
    drop_reasons: tuple[str, ...] = ()
    functions: str | None = None
    modules: tuple[str, ...] = ()
    all_modules: bool = False
    backend: str | None = None
    kprobe_batch: int = 10
    ring_buffer_size: int | None = None
    kernel_btf: str | None = None
    parts: Mapping[str, int] = MappingProxyType({"meta": 0, "tuple": 0})
    tcp_flags: bool = False
    skb_metadata: tuple[str, ...] = ()
    xdp_metadata: tuple[str, ...] = ()
    follow: bool = False
    follow_limit: int = 16384
    by_stack: bool = False
    without_skb: tuple[str, ...] = ()
    trace_tc: bool = False
    trace_xdp: bool = False
    trace_helpers: bool = False

    @property
    def ends_match(self) -> bool:
        """Whether a packet matches to its end: it is asked for by what it is, not by where it is.

        Nor is it seen how long a frame of XDP is the same.
        """
        inner = self.filter.inner_l2 or self.filter.inner_l3
        place = self.netns is not None or self.ifname is not None or self.pid or self.comm is not None
        return not (place or inner or self.mark_mask or self.skb_expr is not None or self.trace_xdp)


def check_request(request: Request) -> None:
    """Raise PwruError for what no kernel can carry out; the command line refuses most of it on its own."""
    for name in ("netns", "ifname", "skb_expr", "xdp_expr", "comm", "functions", "backend", "kernel_btf"):
        text = getattr(request, name)
        if text is not None and (not isinstance(text, str) or "\0" in text):
            raise PwruError(f"`{name}` must be text, without a NUL")
    for name in ("drop_reasons", "modules", "skb_metadata", "xdp_metadata", "without_skb"):
        if not isinstance(getattr(request, name), tuple):
            raise PwruError(f"`{name}` must be a list")
    if request.backend is not None and request.backend not in BACKENDS:
        hint = near(request.backend, BACKENDS) or f"there are {', '.join(BACKENDS)}"
        raise PwruError(f"`backend`: no such backend: {request.backend}; {hint}")
    if request.functions is not None:
        NamePattern(request.functions)
    if request.drop_reasons and (
        request.functions or request.modules or request.all_modules or request.backend not in (None, "tracepoint")
    ):
        raise PwruError("`drop_reasons` works only without `functions` and modules, and with the backend tracepoint")
    for name in ("trace_tc", "trace_xdp"):
        if request.drop_reasons and getattr(request, name):
            raise PwruError(f"`drop_reasons` works only without `{name}`")
    if not isinstance(request.pid, int) or not 0 <= request.pid <= MAX_PID:
        raise PwruError(f"`pid`: {request.pid!r} is not a PID (1 to {MAX_PID})")
    if request.comm is not None and not 1 <= len(os.fsencode(request.comm)) <= MAX_COMM:
        raise PwruError(f"`comm`: the kernel keeps 1 to {MAX_COMM} bytes of a name, not {request.comm!r}")
    for name in ("skb_metadata", "xdp_metadata"):
        listed = getattr(request, name)
        if len(set(listed)) < len(listed):
            raise PwruError(f"`{name}`: a field is there twice: {', '.join(listed)}")
    for name in ("xdp_expr", "xdp_metadata"):
        if getattr(request, name) not in (None, ()) and not request.trace_xdp:
            raise PwruError(f"`{name}` is about frames of XDP: it works only with `trace_xdp`")
    if request.follow and request.drop_reasons:
        raise PwruError("`follow` and `drop_reasons` exclude each other: of drops alone there is no way to follow")
    if not isinstance(request.follow_limit, int) or not 1 <= request.follow_limit <= MAX_FOLLOWED:
        raise PwruError(f"`follow_limit`: {request.follow_limit!r} is not a number of skbs (1 to {MAX_FOLLOWED})")
    if request.by_stack and not request.follow:
        raise PwruError("`by_stack` works only with `follow`")
    if request.without_skb and not request.by_stack:
        raise PwruError("`without_skb` works only with `by_stack`")
    if request.trace_helpers and not request.by_stack:
        raise PwruError("`trace_helpers` works only with `by_stack`")
    if request.trace_helpers and not (request.trace_tc or request.trace_xdp):
        raise PwruError("`trace_helpers` works only with `trace_tc` or `trace_xdp`")
    if "bpfmap" in request.parts and not request.trace_helpers:
        raise PwruError("`bpfmap` works only with `trace_helpers`")
    if "follow" in request.parts and not request.follow:
        raise PwruError("`parts`: follow is only for a trace that follows packets; see `follow`")
    _check_parts(request.parts)


def _check_parts(parts: Mapping[str, int]) -> None:
    from pwru.record.parts import PARTS

    for name in parts:
        if name == "values":
            raise PwruError("`parts`: values come with `skb_metadata` and `xdp_metadata`")
        if name not in PARTS:
            hint = near(name, PARTS) or f"there are {', '.join(PARTS)}"
            raise PwruError(f"`parts`: no such part: {name}; {hint}")
    if not 1 <= parts.get("payload", 1) <= MAX_PAYLOAD:
        raise PwruError(f"`parts`: payload takes a size in bytes, 1 to {MAX_PAYLOAD}")
