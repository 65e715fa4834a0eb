"""Verdicts on packets: of translated filters in this machine's kernel, and of libpcap's own interpreter.

In the kernel: tests/bpf/filter_harness.bpf.c, loaded with the filters spliced in and run by BPF_PROG_TEST_RUN. It runs
expressions on memory that passes for skbs, too.
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
from pathlib import Path

import pytest

from pwru.filter.load import Cast
from pwru.filter.pcap import Insn
from pwru.filter.splice import splice
from pwru.libbpf import BpfError, Object, prog_test_run

from .packets import Packet

_BPF = Path(__file__).parents[2] / "bpf"
OBJECT = _BPF / "filter_harness.bpf.o"

# struct batch of filter_harness.bpf.c
_BATCH_SIZE = 256 * 1024
MAX_PACKETS = 256
_HEADER = struct.Struct("=QII")
_ENTRY = struct.Struct("=5I")


def harness_image() -> bytes:
    """The harness object, brought up to date when there is a compiler; skips the test when it cannot be had."""
    if shutil.which("clang-19") or shutil.which("clang"):
        subprocess.run(["make", "-s", "-C", str(_BPF)], check=True)
    if not OBJECT.exists():
        pytest.skip(f"no clang to build {OBJECT.name}")
    return OBJECT.read_bytes()


def permitted() -> str:
    """Why programs cannot be loaded here; empty if they can."""
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


def cast_of_this_kernel() -> Cast | None:
    """Ids for bpf_rdonly_cast() in this kernel's BTF; None where it does not have it."""
    libbpf = ctypes.CDLL("libbpf.so.1")
    libbpf.btf__load_vmlinux_btf.restype = ctypes.c_void_p
    libbpf.btf__find_by_name_kind.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32)
    libbpf.btf__free.argtypes = (ctypes.c_void_p,)
    btf = libbpf.btf__load_vmlinux_btf()
    kfunc = libbpf.btf__find_by_name_kind(btf, b"bpf_rdonly_cast", 12)  # BTF_KIND_FUNC
    struct_ = libbpf.btf__find_by_name_kind(btf, b"__kernel_sockaddr_storage", 4)  # BTF_KIND_STRUCT
    libbpf.btf__free(btf)
    return Cast(kfunc, struct_) if kfunc > 0 and struct_ > 0 else None


class Batch:
    """Packets laid out for the harness: behind each come another's bytes, behind the last what cannot be read."""

    def __init__(self, packets: Sequence[Packet]) -> None:
        assert len(packets) <= MAX_PACKETS
        self.packets = packets
        offset = _BATCH_SIZE - sum(len(packet.data) for packet in packets)
        self._data_at = offset
        self._data = b"".join(packet.data for packet in packets)
        entries = []
        for packet in packets:
            entries.append(_ENTRY.pack(offset, len(packet.data), packet.len, 0xDEAD, 0xDEAD))
            offset += len(packet.data)
        self._head = _HEADER.pack(0, len(packets), 0)[:12] + b"".join(entries)
        assert len(self._head) <= self._data_at

    def run(self, image: bytes, code: Mapping[str, bytes]) -> list[tuple[bool, bool]]:
        """The verdicts (filter_l2, filter_l3) in the kernel on each packet, of the filters in `code`."""
        with Object(splice(image, code), "filter_harness") as bpf:
            bpf.load()
            with mmap.mmap(bpf.map("batches").fd, _BATCH_SIZE) as shared:
                shared[: len(self._head)] = self._head
                shared[self._data_at :] = self._data
                prog_test_run(bpf.program("run_filters").fd)
                results = shared[12 : len(self._head)]
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
    """What filter_skb() and value_skb() with the bodies in `code` return in the kernel, for each skb.

    `memory(address)` is what is to be from SKBS_DATA on in memory that begins at `address`; `skbs` are offsets there.
    """
    with Object(splice(image, code), "filter_harness") as bpf:
        bpf.load()
        run = bpf.program("run_expression").fd
        with mmap.mmap(bpf.map("skbs").fd, SKBS_SIZE) as shared:
            prog_test_run(run)
            (address,) = struct.unpack_from("=Q", shared)
            shared[SKBS_DATA:] = memory(address)[SKBS_DATA:]
            head = _SKBS_HEADER.pack(0, len(skbs)) + b"".join(_SKB.pack(skb, 0xDEAD, 0xDEAD) for skb in skbs)
            shared[: len(head)] = head
            prog_test_run(run)
            results = shared[_SKBS_HEADER.size : len(head)]
    return [(match, value) for _, match, value in _SKB.iter_unpack(results)]


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
    """What pcap_offline_filter(3PCAP) says to each packet."""
    array = (_PcapInsn * len(insns))(*(_PcapInsn(*insn) for insn in insns))
    program = _PcapProgram(len(insns), array)
    verdicts = []
    for packet in packets:
        header = _PcapHeader(0, 0, len(packet.data), packet.len)
        verdicts.append(_libpcap.pcap_offline_filter(ctypes.byref(program), ctypes.byref(header), packet.data) != 0)
    return verdicts
