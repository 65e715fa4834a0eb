"""From a request to the BPF object in the kernel: the translated filters in it, its configuration, its load."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pwru import __version__
from pwru.ebpf import BPF_FUNC_probe_read_kernel
from pwru.errors import PwruError
from pwru.kernel import features, netns, pids
from pwru.kernel.btf import Btf, BtfError, elf_section
from pwru.kernel.drop_reasons import Wanted
from pwru.libbpf import BpfError, Object, possible_cpus
from pwru.live import programs, rlimits
from pwru.live.backends.how import Refused
from pwru.live.permissions import may_read_memory, refused_load
from pwru.live.program import Program, variant
from pwru.record.layout import Mismatch, Wire
from pwru.record.parts import COPIES
from pwru.record.plan import Plan
from pwru.record.schema import Schema

if TYPE_CHECKING:
    from importlib.abc import FileLoader

    from pwru.filter.load import RdonlyCast
    from pwru.filter.packet.pcap import Programs
    from pwru.kernel.kernel import Kernel
    from pwru.kernel.pages import Pages
    from pwru.live.backends.base import Backend
    from pwru.live.request import Request
    from pwru.record.about import About
    from pwru.record.parts import Field

OBJECT = Path(__file__).parents[1] / "pwru.bpf.o"
# The size of the ring buffer: this share of the memory, between these. An event takes 136 bytes.
_RING_BUFFER_SHARE = 256
_RING_BUFFER_MIN, _RING_BUFFER_MAX = 4 << 20, 64 << 20
_VERIFIER_LINES = 20

Code = dict[str, bytes]


def read_object() -> bytes:
    """Return the BPF object, a file beside the Python code or in one archive with it. Raises PwruError if missing."""
    try:
        return cast("FileLoader", sys.modules[__name__].__loader__).get_data(str(OBJECT))
    except OSError as error:
        raise PwruError(f"the BPF object {OBJECT} cannot be read ({error.strerror}); build it: make build") from None


def object_wire() -> Wire:
    """Return what the object and user space share, from its file. Raises PwruError if it cannot be read."""
    image = read_object()
    try:
        return Wire(Btf(elf_section(BytesIO(image), OBJECT), source=str(OBJECT)))
    except PwruError as error:
        raise _damaged(error) from None


def expressions(request: Request, kernel: Kernel) -> tuple[Code, list[Field]]:
    """Compile the conditions and values on fields to new bodies of stubs; raises PwruError for a mistake."""
    code: Code = {}
    fields: list[Field] = []
    if request.skb_expr is request.xdp_expr is None and not request.skb_metadata and not request.xdp_metadata:
        return code, fields
    from pwru.filter.expression import SKB, XDP, compile_condition, compile_value

    cast = _cast(kernel)
    for stub, condition, root in (("filter_skb", request.skb_expr, SKB), ("filter_xdp_expr", request.xdp_expr, XDP)):
        if condition is not None:
            code[stub] = compile_condition(condition, kernel.btf, cast, root)
    for root, listed in ((SKB, request.skb_metadata), (XDP, request.xdp_metadata)):
        for number, expression in enumerate(listed):
            code[f"{root.name}_value{number}"], field = compile_value(expression, kernel.btf, cast, root)
            fields.append(field)
    return code, fields


def compiler(request: Request) -> Callable[[], Programs | None]:
    """Return what compiles the packet filter in this process."""
    if not request.filter:
        return lambda: None
    from pwru.filter.packet.pcap import compile_filter

    return lambda: compile_filter(request.filter)


def about(request: Request, backend: str, ring_buffer_size: int, *, sees_ends: bool) -> About:
    """Return what a run is."""
    from pwru.record.about import About

    system = os.uname()
    return About(
        __version__,
        (system.release, system.version, system.machine),
        backend,
        follow_limit=request.follow_limit if request.follow else 0,
        sees_ends=sees_ends,
        ring_buffer_size=ring_buffer_size,
    )


def _cast(kernel: Kernel) -> RdonlyCast | None:
    from pwru.filter.load import RdonlyCast

    ids = kernel.fact("bpf_rdonly_cast", features.rdonly_cast)
    return RdonlyCast(*ids) if ids else None


def _damaged(error: Exception) -> PwruError:
    return PwruError(
        f"the BPF object {OBJECT} is damaged or of another version ({error}); reinstall pwru, or build it: make build"
    )


class Loader:
    """Loads the object of one run for whichever backend."""

    def __init__(self, request: Request, kernel: Kernel, fields: Sequence[Field], image: bytes) -> None:
        """Raises PwruError for an object of another version, and if what is filtered by does not exist here."""
        self._request = request
        self._kernel = kernel
        self._fields = fields
        self._templates = programs.templates(request)
        try:
            with _open(image, kernel) as bpf:
                self.wire = Wire(Btf(bpf.btf()))
            self._filters = filter_config(request, kernel, self.wire)
        except (BtfError, Mismatch) as error:
            raise _damaged(error) from None
        most = self.wire.constant("MAX_VALUES")
        for name in ("skb_metadata", "xdp_metadata"):
            if (count := len(getattr(request, name))) > most:
                raise PwruError(f"`{name}`: {count} fields; up to {most} can be printed")
        possible_cpus()  # raises now rather than at the end, when the counters are read
        self._has_helper = may_read_memory()
        if not self._has_helper and not _cast(kernel):
            raise PwruError(
                "this kernel is locked down (confidentiality): BPF programs may not read its memory, so they see no"
                " packet before Linux 6.2; boot it without lockdown=confidentiality"
            )
        self._image = image
        # What is read beyond the bytes at an skb's head; None: nothing.
        self._pages: Pages | None = None
        if request.filter.reads_payload or "payload" in request.parts:
            from pwru.kernel.pages import find_pages

            self._pages = find_pages(kernel.fact("size of page", partial(_struct_size, "page")))

    def limits(self) -> Iterator[str]:
        """Yield what cannot be told here, one sentence each."""
        wanted = self._request.filter
        if wanted.inner_l2 or wanted.inner_l3:
            yield (
                "Inner packets are found in VXLAN, Geneve, GRE, IPIP and SIT, and where this kernel encapsulates:"
                " what other tunnels carry passes."
            )
        if wanted.reads_payload and not self._pages:
            yield (
                "/proc/kcore does not say here where the kernel's pages are: the filter does not see what packets have"
                " in page fragments, as most of the payload that this machine sends."
            )

    def splice(self, code: Code, programs: Programs | None) -> bytes:
        """Return the object with these bodies of stubs and with the packet filters."""
        if programs:
            code = {**code, **self._packet_filters(programs)}
        if not code and self._has_helper:
            return self._image
        from pwru.filter.splice import splice, without_helper

        try:
            image = splice(self._image, code)
            return image if self._has_helper else without_helper(image, BPF_FUNC_probe_read_kernel)
        except PwruError:
            raise
        except Exception as error:  # whatever a reader of ELF makes of a file that is damaged anywhere
            raise _damaged(error) from None

    def _packet_filters(self, programs: Programs) -> Code:
        from pwru.filter.packet import skb

        kernel, code = self._kernel, Code()
        cast, max_tags = _cast(kernel), self.wire.constant("MAX_TAGS")
        goes_beyond = self._request.filter.reads_payload and self._pages is not None
        if programs.l2:
            layout = kernel.fact("struct sk_buff", skb.skb_layout)
            code["filter_packet"] = skb.filter_packet(
                programs, layout, cast, max_tags=max_tags, goes_beyond=goes_beyond
            )
            if self._request.filter.says_vlan:
                tag = kernel.fact("VLAN tag of struct sk_buff", partial(skb.skb_layout, of=skb.Tag))
                code["filter_tagged"] = skb.filter_tagged(
                    programs, (layout, tag), cast, max_tags=max_tags, goes_beyond=goes_beyond
                )
            if goes_beyond:
                code |= skb.filter_whole(programs, cast)
        if programs.l2 and self._request.trace_xdp:
            from pwru.filter.packet.xdp import filter_xdp, xdp_layout

            code["filter_xdp"] = filter_xdp(programs.l2, kernel.fact("struct xdp_buff", xdp_layout), cast)
        for name, insns in (("filter_inner_l2", programs.inner_l2), ("filter_inner_l3", programs.inner_l3)):
            if insns:
                code[name] = skb.filter_bytes(insns, cast, bare=name == "filter_inner_l3")
        return code

    def load(self, image: bytes, backend: Backend, on_debug: Callable[[str], None] | None = None) -> Program:
        """Load `image`: the object, with other bodies of stubs. `on_debug` gets the end of the verifier's log.

        Raises Refused if BPF programs may not be loaded, or PwruError; nothing is left then.
        """
        while True:
            bpf = _open(image, self._kernel)
            try:
                schema = self._configure(bpf, backend)
                rlimits.make_room(bpf, self._kernel)
                bpf.load()
            except BpfError as error:
                bpf.close()
                if error.errno == errno.EPERM and rlimits.grow_memlock(self._kernel):
                    continue
                if on_debug:
                    on_debug("\n".join(error.log.splitlines()[-_VERIFIER_LINES:]))
                if refusal := refused_load():
                    raise PwruError(refusal) from None  # to all backends
                if error.errno == errno.ENOMEM:
                    size = _ring_buffer_size(self._request.ring_buffer_size) >> 10
                    raise PwruError(
                        f"the kernel has no memory for the BPF maps, of which the ring buffer takes {size}K:"
                        " a smaller `ring_buffer_size` needs less"
                    ) from None
                if not features.jit_enabled():
                    raise PwruError(
                        "these BPF programs need the kernel's JIT compiler, which is switched off;"
                        " sysctl net.core.bpf_jit_enable=1 switches it on"
                    ) from None
                if error.errno == errno.EPERM:
                    raise Refused("loading this BPF program is not permitted") from None
                # libbpf reads the kernel's BTF, which may be hidden; facts of earlier starts are no help there.
                self._kernel.btf.validate()
                reason = os.strerror(error.errno or 0)
                hint = "" if on_debug else "; `debug` shows why"
                raise PwruError(f"the kernel refused the BPF programs: {reason}{hint}") from None
            except BaseException:
                bpf.close()
                raise
            return Program(bpf, self._name(backend), schema, self.wire)

    def _name(self, backend: Backend) -> str:
        return variant(backend.program.name, following=self._request.follow)

    def _configure(self, bpf: Object, backend: Backend) -> Schema:
        plan = self._plan(backend)
        try:
            spec = backend.program
            name = self._name(backend)
            if spec.set_type:
                bpf.program(name).set_type(spec.prog_type, spec.attach_type)
            for program in bpf.programs():
                program.set_autoload(program.name == name or program.name in self._templates)
            config = plan.config(
                **self._filters,
                **backend.config(),
                **(self._pages._asdict() if self._pages else {}),
                no_helper=not self._has_helper,
                follow_xdp=self._request.follow and self._request.trace_xdp,
                by_stack=self._request.by_stack,
                xdp_expr=self._request.xdp_expr is not None,
                sees_all=self._request.functions is None,
            )
            bpf.map(".rodata.config").set_initial_value(config)
            bpf.map("events").set_max_entries(_ring_buffer_size(self._request.ring_buffer_size))
            if self._request.follow:
                bpf.map("followed").set_max_entries(self._request.follow_limit)
            if self._request.by_stack:
                bpf.map("stacks").set_max_entries(1 << self.wire.constant("STACK_BITS"))
        except (BpfError, PwruError) as error:
            raise _damaged(error) from None
        return plan.schema

    def _plan(self, backend: Backend) -> Plan:
        sizes = dict(self._request.parts)
        if backend.has_location:
            sizes["location"] = 0
        for part, struct in COPIES.items():
            if part in sizes:
                sizes[part] = self._kernel.fact(f"size of {struct}", partial(_struct_size, struct))
        if self._request.follow:
            sizes["follow"] = 0
        if self._fields:
            # A record of a run with programs of XDP says what its values are of.
            count = self.wire.constant("MAX_VALUES") + 1 if self._request.trace_xdp else len(self._fields)
            sizes["values"] = 8 * count
        plan = Plan(self.wire, sizes, tcp_flags=self._request.tcp_flags, fields=self._fields)
        if backend.has_location:
            plan.schema.always = frozenset({"location"})
        return plan


def _open(image: bytes, kernel: Kernel) -> Object:
    try:
        return Object(image, "pwru", btf_custom_path=kernel.kernel_btf)
    except BpfError as error:
        raise _damaged(error) from None


def filter_config(request: Request, kernel: Kernel, wire: Wire) -> Mapping[str, int | bytes | Sequence[int]]:
    """Return the members of struct config that say what is filtered by."""
    inode = netns.resolve_netns(request.netns) if request.netns is not None else 0
    ifindex = 0
    if request.ifname is not None:
        ifindex = netns.ifindex(request.ifname, request.netns)
        inode = inode or netns.current_netns()
    most = wire.constant("MAX_REASONS")
    reasons = kernel.drop_reasons.wanted(request.drop_reasons) if request.drop_reasons else []
    if len(reasons) > most:
        raise PwruError(f"`drop_reasons`: {len(reasons)} of them; {most} can be told apart, or `any`")
    repeated = ((reasons or [Wanted(0, 0)]) * most)[:most]
    process = pids.find(request.pid) if request.pid else pids.Process(0)
    present = {
        "FILTER_META": inode or ifindex or request.mark_mask,
        "FILTER_SKB_EXPR": request.skb_expr is not None,
        "FILTER_PACKET": request.filter.expression,
        "FILTER_TAGGED": request.filter.says_vlan,
        "FILTER_INNER_L2": request.filter.inner_l2,
        "FILTER_INNER_L3": request.filter.inner_l3,
        "FILTER_TASK": request.pid or request.comm,
        "FILTER_REASON": reasons,
    }
    return {
        "netns": inode,
        "ifindex": ifindex,
        "mark": request.mark & request.mark_mask,
        "mark_mask": request.mark_mask,
        "pid": process.pid,
        "pid_ns_dev": process.ns_dev,
        "pid_ns_inode": process.ns_inode,
        "comm": os.fsencode(request.comm or ""),
        "reasons": [value for value, _ in repeated],
        "reason_masks": [mask for _, mask in repeated],
        "filters": sum(wire.constant(name) for name, filtered in present.items() if filtered),
    }


def _ring_buffer_size(wanted: int | None) -> int:
    """Return a power of two of whole pages."""
    page = os.sysconf("SC_PAGE_SIZE")
    if wanted is None:
        memory = os.sysconf("SC_PHYS_PAGES") * page
        wanted = min(max(memory // _RING_BUFFER_SHARE, _RING_BUFFER_MIN), _RING_BUFFER_MAX)
    return max(page, 1 << (wanted - 1).bit_length())


def _struct_size(name: str, btf: Btf) -> int:
    struct = btf.struct(name)
    if struct is None:
        raise PwruError(f"this kernel's BTF has no struct {name}")
    return struct.size
