"""libbpf for Python, as thin as it can be.

Names and meanings are libbpf's own (libbpf.h, bpf.h). A failed call raises BpfError, an OSError with libbpf's log.
"""

import ctypes
import errno
import os
import struct
import sys

from . import syscalls
from ._api import BpfError, BtfInfo, LinkCreateOpts, ProgLoadOpts, api, bundled, get_info
from .object import Link, Map, Object, Program, possible_cpus
from .ringbuf import RingBuffer

__all__ = [
    "BPF_PROG_TYPE_KPROBE", "BPF_PROG_TYPE_RAW_TRACEPOINT", "BPF_PROG_TYPE_TRACING", "BPF_TRACE_FENTRY",
    "BPF_TRACE_FENTRY_MULTI", "BPF_TRACE_FEXIT", "BPF_TRACE_KPROBE_MULTI", "BpfError", "Link", "Map", "Object",
    "Program", "RingBuffer", "link_fentry", "link_fentry_multi", "link_kprobe_multi", "link_raw_tracepoint",
    "map_create_array", "module_btf", "origin", "possible_cpus", "prog_load", "version",
]  # fmt: skip

# enum bpf_map_type, bpf_prog_type and bpf_attach_type, include/uapi/linux/bpf.h
BPF_MAP_TYPE_ARRAY = 2
BPF_PROG_TYPE_KPROBE = 2
BPF_PROG_TYPE_RAW_TRACEPOINT = 17
BPF_PROG_TYPE_TRACING = 26
BPF_TRACE_FENTRY = 24
BPF_TRACE_FEXIT = 25
BPF_TRACE_KPROBE_MULTI = 42
BPF_TRACE_FENTRY_MULTI = 59

_BPF_RAW_TRACEPOINT_OPEN, _BPF_LINK_CREATE = 17, 28  # enum bpf_cmd


def version() -> str:
    text: bytes = api().libbpf_version_string()
    return text.decode().removeprefix("v")


def origin() -> str:
    """Return whose library is used: `bundled with pwru` or `the system's`. Raises PwruError if it cannot be loaded."""
    api()
    # frozen: in one file with everything
    return "bundled with pwru" if bundled() or hasattr(sys, "frozen") else "the system's"


def prog_load(
    prog_type: int,
    insns: bytes,
    *,
    expected_attach_type: int = 0,
    attach_btf_id: int = 0,
    attach_btf_obj_fd: int = 0,
    attach_prog_fd: int = 0,
) -> int:
    """Load bare instructions as a GPL program; return a descriptor that the caller must close.

    `attach_btf_id`: the function that a program of type TRACING is for, in the BTF of the module with the descriptor
    `attach_btf_obj_fd` (0: vmlinux), or of the BPF program with the descriptor `attach_prog_fd`.
    """
    opts = ProgLoadOpts(
        expected_attach_type=expected_attach_type,
        attach_btf_id=attach_btf_id,
        attach_btf_obj_fd=attach_btf_obj_fd,
        attach_prog_fd=attach_prog_fd,
    )
    return int(api().bpf_prog_load(prog_type, b"pwru", b"GPL", insns, len(insns) // 8, ctypes.byref(opts)))


def map_create_array(value: bytes) -> int:
    """Create an array of one value, as for global data; return a descriptor that the caller must close."""
    fd = int(api().bpf_map_create(BPF_MAP_TYPE_ARRAY, b"pwru", 4, len(value), 1, None))
    try:
        api().bpf_map_update_elem(fd, bytes(4), value, 0)
    except BpfError:
        os.close(fd)
        raise
    return fd


def link_raw_tracepoint(prog_fd: int, name: str, cookie: int = 0) -> Link:
    """Attach to a tracepoint. `cookie`: what bpf_get_attach_cookie() returns there, if this kernel has that."""
    if not cookie:
        return Link(api().bpf_raw_tracepoint_open(name.encode(), prog_fd), prog_fd)
    buffer = ctypes.create_string_buffer(name.encode())
    # union bpf_attr, raw_tracepoint: name, prog_fd, cookie. By hand, since older versions of libbpf have no option.
    attr = struct.pack("=QI4xQ", ctypes.addressof(buffer), prog_fd, cookie)
    return Link(syscalls.bpf(_BPF_RAW_TRACEPOINT_OPEN, attr), prog_fd)


def link_kprobe_multi(prog_fd: int, addresses: list[int]) -> Link:
    """Attach to function entries by address (since v5.18, commit 0dcac2725406 ("bpf: Add multi kprobe link"))."""
    opts = LinkCreateOpts(cnt=len(addresses))
    packed = struct.pack(f"={len(addresses)}Q", *addresses)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    opts.addrs = ctypes.addressof(buffer)
    return Link(api().bpf_link_create(prog_fd, 0, BPF_TRACE_KPROBE_MULTI, ctypes.byref(opts)), prog_fd)


def link_fentry(prog_fd: int) -> Link:
    """Attach a program of type TRACING to the function that it was loaded for."""
    return Link(api().bpf_raw_tracepoint_open(None, prog_fd), prog_fd)


def link_fentry_multi(prog_fd: int, btf_ids: list[int]) -> Link:
    """Attach to the entries of functions by their ids in the BTF that the program was loaded with (since v7.2)."""
    ids = (ctypes.c_uint32 * len(btf_ids))(*btf_ids)
    # union bpf_attr, link_create: prog_fd, target_fd, attach_type, flags; its tracing_multi: ids, cookies, cnt.
    # By hand, since older versions of libbpf have no option for it.
    attr = struct.pack("=IIIIQQI4x", prog_fd, 0, BPF_TRACE_FENTRY_MULTI, 0, ctypes.addressof(ids), 0, len(btf_ids))
    return Link(syscalls.bpf(_BPF_LINK_CREATE, attr), prog_fd)


def module_btf(name: str) -> int:
    """Return a descriptor of this module's BTF, which the caller must close. Takes CAP_SYS_ADMIN.

    Raises OSError, with ENOENT if the module has no BTF.
    """
    btf_id = ctypes.c_uint32(0)
    while True:
        api().bpf_btf_get_next_id(btf_id.value, ctypes.byref(btf_id))
        try:
            fd = int(api().bpf_btf_get_fd_by_id(btf_id.value))
        except BpfError as error:
            if error.errno != errno.ENOENT:
                raise
            continue  # unloaded meanwhile
        if _kernel_btf_name(fd) == name:
            return fd
        os.close(fd)


def _kernel_btf_name(fd: int) -> str | None:
    """Return the module's name, `vmlinux`, or None for the BTF of a program."""
    name = ctypes.create_string_buffer(64)
    info = BtfInfo(name=ctypes.addressof(name), name_len=len(name))
    get_info(fd, info)
    return name.value.decode() if info.kernel_btf else None
