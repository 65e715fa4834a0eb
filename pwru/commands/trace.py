"""The main job in one screen: options → filter → object → probes → events → output."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import struct
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

from pwru.commands.messages import Phases, Progress, say, some
from pwru.errors import PwruError
from pwru.kernel import drop_reasons as drops
from pwru.kernel import features, netns
from pwru.kernel.btf import VMLINUX, Btf
from pwru.kernel.facts import Facts
from pwru.kernel.kallsyms import KallsymsError
from pwru.libbpf import BpfError, Object, RingBuffer
from pwru.live import memlock
from pwru.live.backends import BACKENDS, Probes, Refused, Sites, backend
from pwru.live.names import Symbolizer
from pwru.record.event import Decoder, Parts, pack
from pwru.sinks.lines import Extras, Format, NetnsNames
from pwru.sinks.stream import Writer
from pwru.sinks.stream import writer as destination
from pwru.sinks.terminal import look

if TYPE_CHECKING:
    from pwru.commands.options import Options
    from pwru.filter.expression import Value
    from pwru.filter.load import RdonlyCast
    from pwru.filter.packet.pcap import Compiler
    from pwru.live.watch import Watch
    from pwru.sinks.details import Describe

OBJECT = Path(__file__).parents[1] / "pwru.bpf.o"
# The size of the ring buffer: this share of the memory, between these. An event takes 136 bytes.
_RING_BUFFER_SHARE = 256
_RING_BUFFER_MIN, _RING_BUFFER_MAX = 4 << 20, 64 << 20
_READ_SIZE = 1 << 18
# How long events may wait for others to be printed together with, in seconds. The first after a pause does not wait.
_TICK = 0.005
# How long a program may still run after it was detached, in seconds.
_STRAGGLERS = 1.0
_VERIFIER_LINES = 20
_MAX_TAGS = 8  # bpf/capture.bpf.h
# The most that the code of one bpf_trace_run1() takes.
_TRACE_RUN_BYTES = 1024


def trace(options: Options, compiler: Compiler | None = None) -> bool:
    """Runs until a signal, the limit of lines or the end of who reads: whether nothing was lost.

    `compiler` is at work on the packet filter, if there is one. Raises PwruError if it cannot begin or go on.
    """
    phases = Phases(options.debug)
    _check_capabilities()
    writer = destination(options)
    _check_ready_file(options.ready_file)
    modules, watch = _modules(options)
    memory = None if options.kernel_btf or not os.path.exists(VMLINUX) else Facts()
    sites = Sites(options.filter_func, kernel_btf=options.kernel_btf, modules=modules, memory=memory)
    config = filters(options, sites, compiler is not None and compiler.says_vlan)
    code, values = _expressions(options, sites)
    with Stop() as stop:
        image = cache(lambda: _image(compiler, sites, code))
        bpf, probes = _attach(options, image, config, sites, stop, phases)
        try:
            decoder = Decoder(Btf(bpf.btf()), _parts(options, probes))
            output = _format(options, decoder, probes, values)
            if probes.name == "tracepoint" and (modules or watch):
                say("Not traced: functions of modules, since this backend traces none.")
                watch = None
            _ready(options, probes)
            if probes.name != "kprobe":
                from pwru.live.backends.kprobe import clean_up

                clean_up()
            if memory:
                memory.save()
            lines = _pump(options, bpf, decoder, output, writer, stop, probes, watch)
            probes.detach()
            phases.done("trace and detach")
            return _report(bpf, lines, options, output, probes)
        finally:
            probes.detach()
            bpf.close()
            writer.close()


class Stop:
    """Ctrl-C and SIGTERM ask for the end; asked again, the process ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self.fd, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.close(self.fd)
        os.close(self._wakeup)

    def check(self) -> None:
        if self.asked:
            raise PwruError("interrupted before everything was attached")

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            os._exit(128 + number)
        self.asked = True


def _check_capabilities() -> None:
    if features.in_user_namespace():
        raise PwruError("not permitted in a user namespace, whatever its capabilities; run it as the machine's root")
    missing = features.missing_capabilities()
    if missing:
        raise PwruError(f"not permitted: {' and '.join(missing)} missing; run it as root (sudo pwru …)")


def _cast(sites: Sites) -> RdonlyCast | None:
    from pwru.filter.load import RdonlyCast

    ids = sites.ask("bpf_rdonly_cast", features.rdonly_cast)
    return RdonlyCast(*ids) if ids else None


def _expressions(options: Options, sites: Sites) -> tuple[dict[str, bytes], list[Value]]:
    """--filter-skb-expr and --output-skb-metadata as new bodies of stubs, and what the values are.

    Before all else, so that a mistake in them is told at once.
    """
    code: dict[str, bytes] = {}
    values: list[Value] = []
    if options.filter_skb_expr is None and not options.output_skb_metadata:
        return code, values
    from pwru.filter.expression import compile_condition, compile_value

    cast = _cast(sites)
    if options.filter_skb_expr is not None:
        code["filter_skb"] = compile_condition(options.filter_skb_expr, sites.btf, cast)
    for number, field in enumerate(options.output_skb_metadata):
        insns, value = compile_value(field, sites.btf, cast)
        code[f"skb_value{number}"] = insns
        values.append(value)
    return code, values


def _image(compiler: Compiler | None, sites: Sites, code: dict[str, bytes]) -> bytes:
    """The BPF object with `code` and the packet filter in it, for which it waits."""
    try:
        image = OBJECT.read_bytes()
    except OSError as error:
        raise PwruError(f"the BPF object {OBJECT} cannot be read ({error.strerror}); build it: make build") from None
    if compiler is not None:
        from pwru.filter.packet import skb as packet

        programs, cast, code = compiler.programs(), _cast(sites), dict(code)
        if programs.l2:
            layout = sites.ask("struct sk_buff", packet.skb_layout)
            code["filter_packet"] = packet.filter_packet(programs, layout, cast, max_tags=_MAX_TAGS)
            if compiler.says_vlan:
                tag = sites.ask("VLAN tag of struct sk_buff", packet.skb_tag)
                code["filter_tagged"] = packet.filter_tagged(programs, layout, tag, cast, max_tags=_MAX_TAGS)
        for name, program in (("filter_inner_l2", programs.inner_l2), ("filter_inner_l3", programs.inner_l3)):
            if program:
                inner = sites.ask("inner headers of struct sk_buff", packet.skb_inner)
                code[name] = packet.filter_inner(program, inner, cast, mac=name == "filter_inner_l2")
    if not code:
        return image
    from pwru.filter.splice import splice

    try:
        return splice(image, code)
    except PwruError:
        raise
    except Exception as error:  # whatever a reader of ELF makes of a file that is damaged anywhere
        raise _damaged(error) from None


def _check_ready_file(path: str | None) -> None:
    """Whoever waits for it must not wait for nothing; it is not created before everything is attached."""
    if path is None:
        return
    folder = os.path.dirname(path) or "."
    problem = (
        errno.EISDIR
        if os.path.isdir(path)
        else errno.ENOENT
        if not os.path.isdir(folder)
        else errno.EACCES
        if not os.access(folder, os.W_OK)
        else 0
    )
    if problem:
        raise PwruError(f"--ready-file: cannot create {path}: {os.strerror(problem)}")


def _damaged(error: Exception) -> PwruError:
    return PwruError(
        f"the BPF object {OBJECT} is damaged or of another version ({error}); reinstall pwru, or build it: make build"
    )


# bpf/pwru.h.
_FILTER_META, _FILTER_SKB_EXPR, _FILTER_PACKET, _FILTER_TASK, _FILTER_REASON, _FILTER_TAGGED = 1, 2, 4, 8, 16, 32
_FILTER_INNER_L2, _FILTER_INNER_L3 = 64, 128
_MAX_REASONS = 8
# Values of struct config, by name.
Config = dict[str, int | bytes]


def filters(options: Options, sites: Sites, says_vlan: bool = False) -> Config:
    """The first values of struct config in bpf/pwru.h: what is filtered by. `says_vlan`: the packet filter does."""
    inode = netns.resolve_netns(options.filter_netns) if options.filter_netns is not None else 0
    ifindex = 0
    if options.filter_ifname is not None:
        ifindex = netns.ifindex(options.filter_ifname, options.filter_netns)
        inode = inode or netns.current_netns()
    reasons = drops.reasons(options.filter_drop_reason, sites.drop_reasons) if options.filter_drop_reason else []
    if len(reasons) > _MAX_REASONS:
        raise PwruError(f"--filter-drop-reason: {len(reasons)} of them; {_MAX_REASONS} can be told apart, or `any`")
    return {
        "netns": inode,
        "ifindex": ifindex,
        "mark": options.filter_mark & options.filter_mark_mask,
        "mark_mask": options.filter_mark_mask,
        "pid": options.filter_pid,
        "comm": os.fsencode(options.filter_comm or ""),
        "reasons": struct.pack(f"={_MAX_REASONS}I", *(reasons * _MAX_REASONS or [0] * _MAX_REASONS)[:_MAX_REASONS]),
        "filters": (_FILTER_META if inode or ifindex or options.filter_mark_mask else 0)
        | (_FILTER_SKB_EXPR if options.filter_skb_expr is not None else 0)
        | (_FILTER_PACKET if options.pcap_filter else 0)
        | (_FILTER_TAGGED if says_vlan else 0)
        | (_FILTER_INNER_L2 if options.filter_tunnel_pcap_l2 else 0)
        | (_FILTER_INNER_L3 if options.filter_tunnel_pcap_l3 else 0)
        | (_FILTER_TASK if options.filter_pid or options.filter_comm else 0)
        | (_FILTER_REASON if reasons else 0),
    }


def _modules(options: Options) -> tuple[list[str], Watch | None]:
    """Whose functions are wanted, too, and with --all-kmods what tells of more; says what cannot be had."""
    if not options.kmods and not options.all_kmods:
        return [], None
    from pwru.kernel import modules
    from pwru.live.watch import Watch

    named = modules.resolve(options.kmods)
    if not options.all_kmods:
        return named, None
    watch = None
    try:
        watch = Watch()
    except OSError as error:
        say(f"Not traced: functions of modules that are loaded later: {error.strerror}.")
    there = watch.modules if watch else list(modules.loaded())
    unknown = modules.without_btf(there)
    if unknown and len(unknown) == len(there):
        say(f"Not traced: functions of modules: {modules.NO_BTF}.")
        if watch:
            watch.close()
        return [], None
    if unknown:
        say(f"Not traced: functions of {some(unknown)}: built without BTF.")
    return [module for module in there if module not in unknown], watch


def _attach(
    options: Options,
    image: Callable[[], bytes],
    config: Config,
    sites: Sites,
    stop: Stop,
    phases: Phases,
) -> tuple[Object, Probes]:
    """The first backend that this kernel lets attach, at work; says what was refused on the way to it."""
    refused: dict[str, list[str]] = {}
    for name in (options.backend,) if options.backend else BACKENDS:
        probes = backend(name)(sites, options.filter_kprobe_batch)
        probes.with_stack = options.output_stack
        try:
            _find(probes, refused)
            phases.done(f"{name}: what to attach to")
            try:
                spliced = image()
            finally:
                stop.check()  # what a terminal sends has ended the compiler, too
            phases.done("packet filter")
            bpf = attach_with(probes, options, spliced, config, stop, phases)
        except Refused as error:
            refused.setdefault(str(error), []).append(name)
            continue
        if refused:
            say(f"Not available: {_all(refused)}.")
        return bpf, probes
    raise PwruError(f"this kernel cannot be traced: {_all(refused)}")


def _all(refused: dict[str, list[str]]) -> str:
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in refused.items())


def _find(probes: Probes, refused: dict[str, list[str]]) -> None:
    try:
        if reason := probes.unavailable():
            raise Refused(reason)
        probes.find()
    except KallsymsError as error:
        raise Refused(str(error)) from None
    except PwruError as error:
        # Said together, because the one may come of the other: a function's name where only tracepoints are left.
        raise PwruError(f"{error}; {_all(refused)}" if refused else str(error)) from None


def attach_with(probes: Probes, options: Options, image: bytes, config: Config, stop: Stop, phases: Phases) -> Object:
    """The object, loaded and attached by this backend; raises Refused or PwruError, and then nothing is left of it."""
    bpf = _load(options, image, config, probes)
    phases.done(f"{probes.name}: load")
    try:
        with Progress("Attaching") as progress:

            def one_more(done: int, total: int) -> None:
                stop.check()
                progress(done, total)

            probes.attach(bpf, one_more)
    except BaseException:
        probes.detach()
        bpf.close()
        raise
    phases.done(f"{probes.name}: attach")
    return bpf


def _load(options: Options, image: bytes, config: Config, probes: Probes) -> Object:
    """The object in the kernel, with only the program of this backend."""
    while True:
        bpf = _open(options, image, config, probes)
        try:
            memlock.make_room(bpf, probes.sites)
            bpf.load()
            return bpf
        except BpfError as error:
            bpf.close()
            if error.errno == errno.EPERM and memlock.grow(probes.sites):
                continue
            if options.debug:
                say("\n".join(error.log.splitlines()[-_VERIFIER_LINES:]))
            if error.errno == errno.EPERM:
                raise Refused("loading BPF programs is not permitted") from None
            hint = "" if options.debug else "; --debug shows why"
            raise PwruError(f"the kernel refused the BPF programs: {os.strerror(error.errno or 0)}{hint}") from None


def _open(options: Options, image: bytes, config: Config, probes: Probes) -> Object:
    try:
        bpf = Object(image, "pwru", btf_custom_path=options.kernel_btf)
        wanted = bpf.program(probes.program)
        if not probes.section_tells:
            wanted.set_type(*probes.kind)
        for program in bpf.programs():
            program.set_autoload(program.name == probes.program)
        btf = Btf(bpf.btf())
        layout = Decoder(btf, _parts(options, probes)).layout
        values: Config = {
            **config,
            "tries": probes.tries,
            "ip_is_entry": probes.ip_is_entry,
            "tcp_flags": options.output_tcp_flags,
            **_trace_run(options, probes),
            **layout,
        }
        bpf.map(".rodata.config").set_initial_value(pack(btf, "config", values))
        bpf.map("events").set_max_entries(_ring_buffer_size(options.ring_buffer_size))
    except (BpfError, PwruError) as error:
        raise _damaged(error) from None
    return bpf


def _trace_run(options: Options, probes: Probes) -> Config:
    """Where the functions are, side by side, that tracepoints call programs by: their caller has the tracepoint."""
    start = size = 0
    if probes.name == "tracepoint" and options.output_caller:
        names = [f"bpf_trace_run{count}" for count in range(1, 13)]
        addresses: list[int] = []
        with contextlib.suppress(KallsymsError):  # then it has no name either
            addresses = [addr for found in probes.sites.kallsyms.find(names).values() for addr in found]
        if addresses:
            start = min(addresses)
            size = max(addresses) - start + _TRACE_RUN_BYTES
    return {"trace_run_size": size, "trace_run": start}


def _ring_buffer_size(wanted: int | None) -> int:
    """A power of two of whole pages."""
    page = os.sysconf("SC_PAGE_SIZE")
    if wanted is None:
        memory = os.sysconf("SC_PHYS_PAGES") * page
        wanted = min(max(memory // _RING_BUFFER_SHARE, _RING_BUFFER_MIN), _RING_BUFFER_MAX)
    return max(page, 1 << (wanted - 1).bit_length())


def _parts(options: Options, probes: Probes) -> Parts:
    def size(wanted: bool, name: str) -> int:
        return probes.sites.ask(f"size of {name}", partial(_struct_size, name)) if wanted else 0

    return Parts(
        meta=options.output_meta,
        tuple=options.output_tuple,
        location=probes.has_location or options.output_caller,
        time=options.timestamp != "none",
        cb=options.output_skb_cb,
        tcp_flags=options.output_tcp_flags,
        tunnel=options.output_tunnel,
        values=len(options.output_skb_metadata),
        stack=options.output_stack,
        skb=size(options.output_skb, "sk_buff"),
        shared_info=size(options.output_skb_shared_info, "skb_shared_info"),
        payload=options.output_payload,
    )


def _struct_size(name: str, btf: Btf) -> int:
    found = btf.struct(name)
    if found is None:
        raise PwruError(f"this kernel's BTF has no struct {name}")
    return found.size


def _details(
    options: Options, decoder: Decoder, symbolizer: Symbolizer, values: list[Value], sites: Sites
) -> Describe | None:
    if not decoder.has_details:
        return None
    from pwru.sinks.details import Describe

    skb = shared_info = None
    if options.output_skb or options.output_skb_shared_info:
        from pwru.kernel.dump import Dump

        skb = Dump(sites.btf, "sk_buff") if options.output_skb else None
        shared_info = Dump(sites.btf, "skb_shared_info") if options.output_skb_shared_info else None
    return Describe(decoder, values, symbolizer.stack if options.output_stack else None, skb, shared_info)


def _format(options: Options, decoder: Decoder, probes: Probes, values: list[Value]) -> Format:
    symbolizer = Symbolizer(probes)
    clock = None
    if options.timestamp != "none":
        from pwru.sinks.time import CLOCKS

        clock = CLOCKS[options.timestamp]()
    more = _details(options, decoder, symbolizer, values, probes.sites)
    names = NetnsNames(netns.names, options.netns_names_max_length) if options.output_netns_names else None
    extras = Extras(clock, names, more, options.output_caller, look(options))
    make: type[Format]
    if options.output_json:
        from pwru.sinks.json import Json as make
    else:
        from pwru.sinks.text import Text as make
    return make(decoder, symbolizer.function, symbolizer.last(), extras)


def _ready(options: Options, probes: Probes) -> None:
    what = ("tracepoint" if probes.name == "tracepoint" else "function") + "s" * (probes.attached != 1)
    if empty := [module for module in probes.sites.empty_modules if module in options.kmods]:
        say(f"Not traced: functions of {some(empty)}: none has an skb argument that can be read.")
    say(f"Attached to {probes.attached} {what} ({probes.name})" + _skipped(probes) + ".")
    if options.debug:
        for cause, names in (probes.sites.left_out | probes.left_out).items():
            say(f"debug: {len(names)} functions are left out: {cause}")
        for name, reason in probes.skipped:
            say(f"debug: not attached: {name}: {reason}")
    if options.ready_file:
        try:
            Path(options.ready_file).touch()
        except OSError as error:
            raise PwruError(f"--ready-file: cannot create {options.ready_file}: {error.strerror}") from None
    say("Listening for events..")


def _skipped(probes: Probes) -> str:
    if not probes.skipped:
        return ""
    return f"; {len(probes.skipped)} refused by the kernel: {some(sorted(name for name, _ in probes.skipped))}"


def _pump(
    options: Options,
    bpf: Object,
    decoder: Decoder,
    output: Format,
    writer: Writer,
    stop: Stop,
    probes: Probes,
    watch: Watch | None,
) -> int:
    """Moves events from the ring buffer to the writer until it is time to end; how many lines it wrote."""
    events = bpf.map("events")
    ring = RingBuffer(events.fd, events.max_entries)
    others = select.epoll()
    others.register(stop.fd, select.EPOLLIN)
    with contextlib.suppress(PermissionError):  # regular files cannot be polled, and have no reader to lose
        others.register(writer.fd, 0)  # EPOLLERR is always told
    if watch:
        others.register(watch.fd, select.EPOLLIN)
    ring.poll.register(others.fileno(), select.EPOLLIN)
    writer.give_up_after(stop.fd)
    writer.begin(output.header())
    limit = options.output_limit_lines
    lines = 0
    detached, deadline = False, 0.0
    while True:
        if stop.asked and not detached:
            # Nothing new comes from here on, but what came before is still to be printed.
            probes.detach()
            detached = True
            deadline = time.monotonic() + _STRAGGLERS
        if watch and not detached and (loaded := watch.new()):
            _attach_to_modules(loaded, bpf, probes)
            output.forget_functions()
        data = ring.read(_READ_SIZE)
        records = decoder.records(data)
        if limit:
            records = records[: limit - lines]
        if records:
            # They are copies: their room is for those that come while they are printed.
            taken = len(records) * decoder.record_size
            ring.consume(taken, hold=decoder.record_size)
            given_up = writer.write(output.events(records))
            lines += len(records) - given_up
            if given_up or lines == limit:
                return lines
            if detached or taken > ring.size // 8:
                continue  # more is sure to be there
            changed = others.poll(_TICK)
        elif len(data):
            time.sleep(0.001)  # the kernel is writing the next record this very moment
            continue
        elif detached:
            # Not every link waits for the programs that run when it goes: one may still be writing its event.
            hits, full, busy = _counters(bpf)
            if hits == lines + full + busy or time.monotonic() > deadline:
                return lines
            time.sleep(0.001)
            continue
        elif ring.holds:
            ring.consume(0)  # from here on the kernel wakes us: what came before that is to be looked for once more
            continue
        else:
            ring.poll.poll()
            changed = others.poll(0)
        if any(fd == writer.fd for fd, _ in changed):
            raise BrokenPipeError


def _attach_to_modules(loaded: list[str], bpf: Object, probes: Probes) -> None:
    """What cannot be done is said: the trace goes on."""
    from pwru.kernel import modules

    unknown = modules.without_btf(loaded)
    if unknown:
        say(f"Not traced: functions of {some(unknown)}: built without BTF.")
    try:
        targets = probes.sites.of_new_modules([module for module in loaded if module not in unknown])
        for module in sorted({target.module or "" for target in targets}):
            of_module = [target for target in targets if target.module == module]
            try:
                count = probes.attach_more(bpf, of_module)
            except (Refused, OSError) as error:
                say(f"Not traced: functions of {module}: {error}.")
            else:
                say(f"Attached to {count} function{'s' * (count != 1)} of {module}.")
    except PwruError as error:
        say(f"Not traced: functions of {some(loaded)}: {error}.")


def _counters(bpf: Object) -> tuple[int, int, int]:
    """struct counters, the sums over all CPUs."""
    of_cpus = [struct.unpack("=QQQ", value) for value in bpf.map("counters").lookup_percpu(bytes(4))]
    hits, full, busy = map(sum, zip(*of_cpus, strict=True))
    return hits, full, busy


def _report(bpf: Object, lines: int, options: Options, output: Format, probes: Probes) -> bool:
    """The account: every hit is a line, lost, or not printed. Whether there is nothing that somebody may miss."""
    hits, full, busy = _counters(bpf)
    at_limit = lines == options.output_limit_lines > 0
    totals = Totals(lines, output.packets, full, busy, probes.missed, hits - full - busy - lines, at_limit)
    say(totals.json() if options.output_json else totals.text(bpf.map("events").max_entries))
    return not full and not busy and not totals.missed and (at_limit or not totals.not_printed)


class Totals(NamedTuple):
    """What the last line says. `missed`: hits at which the kernel did not run the program, whatever the packet was."""

    events: int
    packets: int
    full: int
    busy: int
    missed: int
    not_printed: int
    at_limit: bool

    def json(self) -> str:
        import json

        lost = {"ring_buffer_full": self.full, "ring_buffer_busy": self.busy, "probe_missed": self.missed}
        return json.dumps(
            {"events": self.events, "packets": self.packets, "lost": lost, "not_printed": self.not_printed}
        )

    def text(self, ring_buffer_size: int) -> str:
        def counted(count: int, what: str) -> str:
            return f"{count} {what}{'s' * (count != 1)}"

        text = f"{counted(self.events, 'event')} of {counted(self.packets, 'packet')}, {self.full + self.busy} lost"
        if self.full:
            size = ring_buffer_size >> 10
            text += (
                f" (the ring buffer of {size}K was full: a narrower filter or a larger --ring-buffer-size loses less)"
            )
        if self.busy:
            text += f" ({self.busy} of them at breakpoints, while other CPUs wrote events)"
        if self.missed:
            text += f", {counted(self.missed, 'probe hit')} missed (the kernel runs no program inside another)"
        if self.not_printed:
            why = "after the limit" if self.at_limit else "(whoever reads the output has stopped)"
            text += f", {self.not_printed} not printed {why}"
        return text
