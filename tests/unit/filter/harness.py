"""Verdicts on packets: of translated filters in this machine's kernel, and of libpcap's own interpreter.

In the kernel it is tests/bpf/filter_harness.bpf.c, loaded with the filters spliced in and run by BPF_PROG_TEST_RUN. It
also runs expressions on memory that passes for skbs.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pytest

from pwru.filter.load import RdonlyCast
from pwru.filter.packet import Insn
from pwru.filter.packet.pcap import Programs
from pwru.filter.packet.skb import ETH_HLEN, MAC_UNSET, Layout, filter_packet, skb_layout
from pwru.filter.packet.translate import IF_IP
from pwru.filter.splice import splice
from pwru.kernel.btf import Btf, read_btf, vmlinux_btf
from pwru.libbpf import BpfError, Object
from pwru.record.layout import Wire
from tests.support.libbpf import prog_test_run

from .packets import Packet

_BPF = Path(__file__).parents[2] / "bpf"
OBJECT = _BPF / "filter_harness.bpf.o"

# struct batch of filter_harness.bpf.c
_BATCH_SIZE = 512 * 1024
MAX_PACKETS = 256
_HEADER = struct.Struct("=QQ")
_ENTRY = struct.Struct("=4I")
_SKB_SIZE = 256
_HEADROOM = 64  # before a packet, from head on
_TAILROOM = 320  # bytes that can be read: struct skb_shared_info
_OTHER = 0xFFFFFFFF


def harness_image() -> bytes:
    """Return the harness object, rebuilt if a compiler is installed; skip the test if the object is missing."""
    if shutil.which("clang-19") or shutil.which("clang"):
        subprocess.run(["make", "-s", "-C", str(_BPF)], check=True)
    if not OBJECT.exists():
        pytest.skip(f"no clang to build {OBJECT.name}")
    return OBJECT.read_bytes()


@cache
def max_tags() -> int:
    """Return MAX_TAGS of bpf/pwru.h."""
    harness_image()
    return Wire(read_btf(OBJECT)).constant("MAX_TAGS")


def permitted() -> str:
    """Return why programs cannot be loaded here, or ""."""
    if os.geteuid() != 0:
        return "not root: cannot load BPF programs"
    try:
        with Object(harness_image(), "filter_harness") as bpf:
            bpf.load()
    except BpfError as error:
        if error.errno == 1:  # EPERM
            return f"BPF programs may not be loaded here: {error}"
        raise
    return ""


def cast_of_this_kernel() -> RdonlyCast | None:
    """Return the ids for bpf_rdonly_cast() in this kernel's BTF, or None."""
    libbpf = ctypes.CDLL("libbpf.so.1")
    libbpf.btf__load_vmlinux_btf.restype = ctypes.c_void_p
    libbpf.btf__find_by_name_kind.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32)
    libbpf.btf__free.argtypes = (ctypes.c_void_p,)
    btf = libbpf.btf__load_vmlinux_btf()
    kfunc = libbpf.btf__find_by_name_kind(btf, b"bpf_rdonly_cast", 12)  # BTF_KIND_FUNC
    struct_ = libbpf.btf__find_by_name_kind(btf, b"__kernel_sockaddr_storage", 4)  # BTF_KIND_STRUCT
    libbpf.btf__free(btf)
    return RdonlyCast(kfunc, struct_) if kfunc > 0 and struct_ > 0 else None


@cache
def layout_of_this_kernel() -> Layout:
    return Layout(*skb_layout(vmlinux_btf()))


class Batch:
    """Packets laid out for the harness: one after the other, with as much room at the end as an skb's data has.

    Each packet belongs to two skbs; the network header is set or, as drivers leave it, is not.
    """

    def __init__(self, packets: Sequence[Packet]) -> None:
        assert len(packets) <= MAX_PACKETS
        self.packets = packets
        self._data = b"".join(packet.data for packet in packets) + bytes(_TAILROOM)
        self._data_at = _BATCH_SIZE - len(self._data)
        self._skbs_at = _HEADER.size + MAX_PACKETS * _ENTRY.size
        assert self._skbs_at + 2 * len(packets) * _SKB_SIZE <= self._data_at

    def _memory(self, address: int) -> bytes:
        memory = bytearray(_BATCH_SIZE)
        _HEADER.pack_into(memory, 0, address, len(self.packets))
        memory[self._data_at :] = self._data
        skb, data = self._skbs_at, self._data_at
        for index, packet in enumerate(self.packets):
            _ENTRY.pack_into(memory, _HEADER.size + index * _ENTRY.size, skb, skb + _SKB_SIZE, _OTHER, _OTHER)
            head, start, after_mac = address + data - _HEADROOM, _HEADROOM, _HEADROOM + ETH_HLEN
            end = start + len(packet.data)
            if index % 2:
                self._skb(memory, skb, packet, head, mac=start, network=after_mac, data=start, end=end)
                self._skb(memory, skb + _SKB_SIZE, packet, head, mac=MAC_UNSET, network=start, data=start, end=end)
            else:
                self._skb(memory, skb, packet, head, mac=start, network=0, data=after_mac, end=end)
                self._skb(memory, skb + _SKB_SIZE, packet, head, mac=start, network=0, data=start, end=end)
            skb += 2 * _SKB_SIZE
            data += len(packet.data)
        return bytes(memory)

    def _skb(
        self, memory: bytearray, at: int, packet: Packet, head: int, *, mac: int, network: int, data: int, end: int
    ) -> None:
        layout = layout_of_this_kernel()
        struct.pack_into("=H", memory, at + layout.network_header, network)
        struct.pack_into("=H", memory, at + layout.mac_header, mac)
        struct.pack_into("=I", memory, at + layout.tail, end)
        struct.pack_into("=Q", memory, at + layout.head, head)
        struct.pack_into("=Q", memory, at + layout.data, head + data)
        struct.pack_into("=I", memory, at + layout.len, packet.len + _HEADROOM - data & 0xFFFFFFFF)

    def run(self, image: bytes, programs: Programs, cast: RdonlyCast | None) -> list[tuple[bool, bool]]:
        """Return the kernel's verdicts on each packet, with a link-layer header and without."""
        code = {"filter_packet": filter_packet(programs, layout_of_this_kernel(), cast, max_tags=max_tags())}
        with Object(splice(image, code), "filter_harness") as bpf:
            _load_only(bpf, "run_filters")
            run = bpf.program("run_filters").fd
            with mmap.mmap(bpf.map("batches").fd, _BATCH_SIZE) as shared:
                prog_test_run(run)
                (address,) = struct.unpack_from("=Q", shared)
                shared[:] = self._memory(address)
                prog_test_run(run)
                results = shared[_HEADER.size : _HEADER.size + len(self.packets) * _ENTRY.size]
        verdicts = [verdict for *_, l2, l3 in _ENTRY.iter_unpack(results) for verdict in (l2, l3)]
        assert all(verdict in (0, 1, IF_IP) for verdict in verdicts)
        return [(l2 != 0, l3 != 0) for *_, l2, l3 in _ENTRY.iter_unpack(results)]


# struct skbs of filter_harness.bpf.c
SKBS_SIZE = 4096
MAX_SKBS = 16
_SKBS_HEADER = struct.Struct("=QQ")
_SKB = struct.Struct("=IIQ")
SKBS_DATA = _SKBS_HEADER.size + MAX_SKBS * _SKB.size


def run_expression(
    image: bytes, code: Mapping[str, bytes], skbs: Sequence[int], memory: Callable[[int], bytes]
) -> list[tuple[int, int]]:
    """Return what filter_skb() and value_skb() with the bodies in `code` return in the kernel, for each skb."""
    return run_on_skbs(image, "run_expression", code, skbs, memory)


def run_on_skbs(
    image: bytes, program: str, code: Mapping[str, bytes], skbs: Sequence[int], memory: Callable[[int], bytes]
) -> list[tuple[int, int]]:
    """Return the match and the value of each skb, by a program of the harness with the bodies of stubs in `code`.

    `memory(address)` returns memory that begins at `address`, used from SKBS_DATA on; `skbs` are offsets in it.
    """
    (results,) = run_on_batches(image, program, code, skbs, [memory])
    return results


def run_on_batches(
    image: bytes,
    program: str,
    code: Mapping[str, bytes],
    skbs: Sequence[int],
    memories: Sequence[Callable[[int], bytes]],
    config: Mapping[str, int] = MappingProxyType({}),
) -> list[list[tuple[int, int]]]:
    """Return the same for one memory after the other. `config`: members of struct config that are not 0."""
    found = []
    with Object(splice(image, code), "filter_harness") as bpf:
        bpf.map(".rodata.config").set_initial_value(_config(Btf(bpf.btf()), config))
        _load_only(bpf, program)
        run = bpf.program(program).fd
        with mmap.mmap(bpf.map("skbs").fd, SKBS_SIZE) as shared:
            prog_test_run(run)
            (address,) = struct.unpack_from("=Q", shared)
            head = _SKBS_HEADER.pack(0, len(skbs)) + b"".join(_SKB.pack(skb, 0xDEAD, 0xDEAD) for skb in skbs)
            for memory in memories:
                shared[SKBS_DATA:] = memory(address)[SKBS_DATA:]
                shared[: len(head)] = head
                prog_test_run(run)
                results = _SKB.iter_unpack(shared[_SKBS_HEADER.size : len(head)])
                found.append([(match, value) for _, match, value in results])
    return found


def _load_only(bpf: Object, name: str) -> None:
    for program in bpf.programs():
        program.set_autoload(program.name == name)
    bpf.load()


def _config(btf: Btf, values: Mapping[str, int]) -> bytes:
    struct_ = btf.struct("config")
    assert struct_
    data = bytearray(struct_.size)
    for name, value in values.items():
        member = struct_.member(name)
        assert member
        data[member.offset : member.offset + member.size] = value.to_bytes(member.size, "little")
    return bytes(data)


_libpcap = ctypes.CDLL(ctypes.util.find_library("pcap"))


class _PcapInsn(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32))


class _PcapProgram(ctypes.Structure):
    _fields_ = (("bf_len", ctypes.c_uint), ("bf_insns", ctypes.POINTER(_PcapInsn)))


class _PcapHeader(ctypes.Structure):
    _fields_ = (
        ("tv_sec", ctypes.c_long),
        ("tv_usec", ctypes.c_long),
        ("caplen", ctypes.c_uint32),
        ("len", ctypes.c_uint32),
    )


def libpcap_verdicts(insns: Sequence[Insn], packets: Sequence[Packet]) -> list[bool]:
    """Return the verdict of pcap_offline_filter(3PCAP) on each packet."""
    array = (_PcapInsn * len(insns))(*(_PcapInsn(*insn) for insn in insns))
    program = _PcapProgram(len(insns), array)
    verdicts = []
    for packet in packets:
        header = _PcapHeader(0, 0, len(packet.data), packet.len)
        verdicts.append(_libpcap.pcap_offline_filter(ctypes.byref(program), ctypes.byref(header), packet.data) != 0)
    return verdicts
