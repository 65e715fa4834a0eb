"""`pwru --check`: what this machine lets pwru do, found out by trying, in words for people and as JSON for scripts."""

import os
import platform
import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from shutil import get_terminal_size
from textwrap import wrap
from typing import NamedTuple

from pwru import __version__
from pwru.commands import messages
from pwru.commands.options import Options
from pwru.commands.stop import Stop
from pwru.errors import PwruError, printable
from pwru.kernel import features, modules, roles
from pwru.kernel.btf import VMLINUX, Btf, vmlinux_btf
from pwru.kernel.drop_reasons import DropReasons
from pwru.kernel.kallsyms import KALLSYMS, Kallsyms
from pwru.kernel.kernel import Kernel
from pwru.kernel.places import Places
from pwru.libbpf import origin, version
from pwru.live.backends import BACKENDS
from pwru.live.backends.how import reason_of
from pwru.live.backends.tracefs import Tracefs
from pwru.live.hooks import Hooks, Unavailable
from pwru.live.permissions import check_permitted
from pwru.live.request import Request
from pwru.live.session import Session

# Functions that every kernel has, to try a backend on; one of them is enough.
_FUNCTIONS = "ip_rcv|ip_local_out|ip_local_deliver|icmp_rcv"
_SAID = "as above"  # for a reason that an earlier line has


class Finding(NamedTuple):
    """`works` is None where there is nothing to say yes or no to."""

    name: str
    works: bool | None
    detail: str


Report = dict[str, list[Finding]]


def check(options: Options, flags_named: Callable[[str], str] = str) -> bool:
    """Print the report to standard output; return whether at least one backend works.

    `flags_named` puts the names of flags in the place of parameters, which stand in backticks.
    """

    def named(findings: Iterable[Finding]) -> list[Finding]:
        return [Finding(flags_named(name), works, flags_named(detail)) for name, works, detail in findings]

    btf = _btf(options)
    machine = named(_machine(options, btf))  # first: to try a backend may raise limits
    backends = named(_backends(options, btf))
    flags = named([*_flags(btf), *_follow(options, btf, backends)])
    report: Report = {"backends": backends, "flags": flags, "machine": machine}
    messages.report(f"{_json(report) if options.json else _text(report)}\n")
    return any(backend.works for backend in report["backends"])


def _btf(options: Options) -> Btf | PwruError:
    try:
        btf = vmlinux_btf(options.request.kernel_btf)
        btf.validate()
    except PwruError as error:
        return error
    return btf


def _backends(options: Options, btf: Btf | PwruError) -> Iterator[Finding]:
    chosen = False
    for name in BACKENDS:
        reason = str(btf) if isinstance(btf, PwruError) else _not_permitted() or _try(options, name)
        detail = reason or ("" if chosen else "taken unless `backend` says otherwise")
        chosen = chosen or not reason
        yield Finding(name, not reason, detail)


def _not_permitted() -> str:
    try:
        check_permitted()
    except PwruError as error:
        return str(error)
    return ""


def _try(options: Options, name: str) -> str:
    """Attach to a few functions, or to all tracepoints, and detach; return why that was refused, or ""."""
    functions = None if name == "tracepoint" else _FUNCTIONS
    request = Request(backend=name, functions=functions, kernel_btf=options.request.kernel_btf)
    stop = Stop()
    try:
        with stop, Session(request, hooks=Hooks(check=stop.check), may_fork=True, remember=False):
            return ""
    except (PwruError, OSError) as error:
        if stop.asked:
            raise PwruError("interrupted") from None
        reason = "; ".join(error.reasons) if isinstance(error, Unavailable) else str(error)
    mode = features.lockdown()
    return reason + (f" (kernel lockdown: {mode})" if mode not in (None, "none") else "")


def _flags(btf: Btf | PwruError) -> Iterator[Finding]:
    from pwru.filter.packet import Filter
    from pwru.filter.packet.pcap import compile_filter

    try:
        compile_filter(Filter("ip"))
        yield Finding("`typed`", True, "")
    except PwruError as error:
        yield Finding("`typed`", False, str(error))
    yield Finding("`modules`, `all_modules`", *_modules())
    if isinstance(btf, PwruError):
        return
    reasons = DropReasons(btf)
    detail = f"{len(reasons.all())} names are known" if reasons else "this kernel has none (since Linux 5.17)"
    yield Finding("drop reasons", bool(reasons), detail)


def _follow(options: Options, btf: Btf | PwruError, backends: list[Finding]) -> Iterator[Finding]:
    """Say which relations of packets that are followed can be seen: what one becomes, where it ends."""
    working = {backend.name for backend in backends if backend.works}
    if isinstance(btf, PwruError) or not working:
        return
    if working == {"tracepoint"}:
        yield Finding("`follow`", True, "by the address only: what is made of a packet has no tracepoint")
        return
    with closing(Kernel(options.request.kernel_btf)) as kernel:
        unseen = roles.missing(Places(kernel, follow=True).functions)
    kinds = ", ".join(kind for kind in roles.RELATIONS if kind not in unseen)
    yield Finding("`follow`", True, f"sees {kinds}" + (f"; not {', '.join(unseen)}" if unseen else ""))


def _modules() -> tuple[bool | None, str]:
    there = list(modules.loaded())
    unknown = modules.without_btf(there)
    if not there:
        return None, "no module is loaded"
    if len(unknown) == len(there):
        return False, modules.NO_BTF
    return True, f"{len(there) - len(unknown)} of {len(there)} loaded modules have BTF"


def _machine(options: Options, btf: Btf | PwruError) -> Iterator[Finding]:
    yield Finding("libbpf", *_libbpf())
    source = options.request.kernel_btf or VMLINUX
    yield Finding("BTF", isinstance(btf, Btf), f"{source}, {btf.count} types" if isinstance(btf, Btf) else str(btf))
    yield Finding("tracefs", *_tracefs())
    yield Finding("symbols", *_symbols())
    mode = features.lockdown() or "unknown (the kernel has none, or securityfs is not mounted)"
    if mode == features.CONFIDENTIALITY:
        mode += ": no kprobes, and BPF programs read packets only by typed loads (Linux 6.2)"
    yield Finding("lockdown", None, mode)
    missing = features.missing_capabilities(tuple(features.CAPABILITIES))
    yield Finding("capabilities", None, f"without {', '.join(missing)}" if missing else "all that matter")
    yield Finding("memory lock limit", None, _memlock(btf))


def _libbpf() -> tuple[bool, str]:
    try:
        return True, origin()
    except PwruError as error:
        return False, str(error)


def _tracefs() -> tuple[bool, str]:
    if folder := features.tracefs():
        return True, str(folder)
    try:
        Tracefs().close()
    except OSError as error:
        return False, f"not mounted, and cannot be ({reason_of(error)})"
    return True, "not mounted; kprobe mounts one that only it sees"


def _symbols() -> tuple[bool, str]:
    try:
        Kallsyms.read()
    except PwruError as error:
        return False, str(error)
    return True, KALLSYMS


def _memlock(btf: Btf | PwruError) -> str:
    limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    soft, hard = ("unlimited" if limit == resource.RLIM_INFINITY else f"{limit >> 10} kB" for limit in limits)
    text = soft if soft == hard else f"{soft}, can be raised to {hard}"
    if isinstance(btf, Btf) and not features.charges_memlock(btf):
        return f"{text}; not for BPF memory on this kernel"
    return text


def _versions() -> dict[str, str]:
    try:
        libbpf = version()
    except PwruError as error:
        libbpf = str(error)
    kernel = os.uname()
    return {
        "pwru": __version__,
        "kernel": f"{kernel.release} {kernel.machine}",
        "libbpf": libbpf,
        "python": platform.python_version(),
    }


def _text(report: Report) -> str:
    lines = ["  ".join(f"{name} {value}" for name, value in _versions().items())]
    words: dict[bool | None, str] = {True: "yes", False: "no", None: "-"}
    columns = get_terminal_size().columns
    for section, findings in report.items():
        lines += ["", section]
        width = max(len(finding.name) for finding in findings)
        said = set[str]()
        for name, works, detail in findings:
            start = f"  {name:<{width}}  {words[works]:<3}  "
            text = start + (_SAID if detail in said else printable(detail))
            said |= {detail} - {""}
            lines += wrap(text, columns, subsequent_indent=" " * len(start), break_on_hyphens=False)
    return "\n".join(lines)


def _json(report: Report) -> str:
    import json

    found = {
        section: {f.name: {"works": f.works, "detail": f.detail} for f in findings}
        for section, findings in report.items()
    }
    return json.dumps({"versions": _versions(), **found}, indent=2)
