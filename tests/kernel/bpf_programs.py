"""BPF programs that see the packets of the tests: loaded, attached, replaced."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pwru import libbpf
from pwru.ebpf import R0, Alu, Assembler
from pwru.libbpf import syscalls
from vmtest.network import Network, sh

OBJECTS = Path(__file__).parents[1] / "bpf"
BPFFS = Path("/run/bpf")  # not below /sys, which `tc -n` mounts anew

_BPF_OBJ_PIN, _BPF_OBJ_GET, _BPF_LINK_CREATE = 6, 7, 28  # enum bpf_cmd
_BPF_NETFILTER = 45  # enum bpf_attach_type
_NFPROTO_IPV4, _NF_INET_LOCAL_IN = 2, 1


@contextmanager
def programs(name: str = "programs") -> Iterator[Path]:
    """Load the programs of an object; yield the folder in which they are pinned. `maps` in it has the maps."""
    if not BPFFS.is_mount():
        BPFFS.mkdir(exist_ok=True)
        sh("mount", "-t", "bpf", "bpf", str(BPFFS))
    folder = BPFFS / name
    sh("bpftool", "prog", "loadall", str(OBJECTS / f"{name}.bpf.o"), str(folder), "pinmaps", str(folder / "maps"))
    try:
        yield folder
    finally:
        sh("rm", "-r", str(folder))


class Tc:
    """Programs for IPv4 at the egress of the client's device, by preference. ARP has to go on."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __enter__(self) -> Tc:
        self._tc("qdisc", "add", "clsact")
        return self

    def __exit__(self, *_: object) -> None:
        self._tc("qdisc", "delete", "clsact")

    def put(self, program: Path, preference: int = 1) -> None:
        """Attach a program, in the place of one that is there."""
        where = "egress", "pref", str(preference), "handle", "1", "protocol", "ip"
        self._tc("filter", "replace", *where, "bpf", "da", "object-pinned", str(program))

    def _tc(self, what: str, verb: str, *words: str) -> None:
        sh("tc", "-n", self._network.client, what, verb, "dev", self._network.client_device, *words)


def lead_tail_call(folder: Path, program: str) -> None:
    """Have calls_another() call this program."""
    value = "value", "pinned", str(folder / program)
    sh("bpftool", "map", "update", "pinned", str(folder / "maps/calls"), "key", "0", "0", "0", "0", *value)


@contextmanager
def replaced(program: Path, function: str) -> Iterator[None]:
    """Have the program of replacements.bpf.c take the place of a function of a program."""
    lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    for name in ("bpf_object__open_file", "bpf_object__find_program_by_name", "bpf_program__attach_freplace"):
        getattr(lib, name).restype = ctypes.c_void_p

    def done(result: int | None) -> int:
        assert result is not None, os.strerror(ctypes.get_errno())
        assert result >= 0, os.strerror(-result)
        return result

    target = pinned(program)
    bpf = ctypes.c_void_p(done(lib.bpf_object__open_file(os.fsencode(OBJECTS / "replacements.bpf.o"), None)))
    try:
        replacement = ctypes.c_void_p(done(lib.bpf_object__find_program_by_name(bpf, b"replaces_a_function")))
        done(lib.bpf_program__set_attach_target(replacement, target, function.encode()))
        done(lib.bpf_object__load(bpf))
        link = ctypes.c_void_p(done(lib.bpf_program__attach_freplace(replacement, 0, None)))
        try:
            yield
        finally:
            lib.bpf_link__destroy(link)
    finally:
        lib.bpf_object__close(bpf)
        os.close(target)


def pinned(program: Path) -> int:
    """Return a descriptor of a pinned program, which the caller must close."""
    path = ctypes.create_string_buffer(os.fsencode(program))
    return syscalls.bpf(_BPF_OBJ_GET, struct.pack("=QII", ctypes.addressof(path), 0, 0))


@contextmanager
def without_btf(path: Path, prog_type: int, returned: int) -> Iterator[Path]:
    """Pin a program that returns this and that nobody can trace."""
    asm = Assembler()
    asm.alu64(Alu.MOV, R0, returned)
    asm.exit()
    fd = libbpf.prog_load(prog_type, asm.code())
    name = ctypes.create_string_buffer(os.fsencode(path))
    syscalls.bpf(_BPF_OBJ_PIN, struct.pack("=QII", ctypes.addressof(name), fd, 0))
    os.close(fd)
    try:
        yield path
    finally:
        path.unlink()


@contextmanager
def netfilter_hook(program: Path) -> Iterator[None]:
    """Attach a program where this namespace's packets of IPv4 come in. Since v6.4."""
    fd = pinned(program)
    hook = _NFPROTO_IPV4, _NF_INET_LOCAL_IN, 0, 0  # priority, flags
    link = syscalls.bpf(_BPF_LINK_CREATE, struct.pack("=IIIIIIiI", fd, 0, _BPF_NETFILTER, 0, *hook))
    os.close(fd)
    try:
        yield
    finally:
        os.close(link)


@contextmanager
def xdp(network: Network, program: Path, mode: str = "xdpdrv", at: tuple[str, str] | None = None) -> Iterator[None]:
    """Attach a program to the server's device, or `at` one of a namespace; `mode`: xdpdrv or xdpgeneric."""
    netns, device = at or (network.server, network.server_device)
    network.ip(netns, "link", "set", "dev", device, mode, "pinned", str(program))
    try:
        yield
    finally:
        network.ip(netns, "link", "set", "dev", device, mode, "off")


def put_first(pinned_map: Path, value: int, netns: str = "") -> None:
    """Set element 0 of a map of 32-bit values; a device map looks for its device in a namespace."""
    within = ("ip", "netns", "exec", netns) if netns else ()
    words = [str(byte) for byte in value.to_bytes(4, "little")]
    sh(*within, "bpftool", "map", "update", "pinned", str(pinned_map), "key", "0", "0", "0", "0", "value", *words)
