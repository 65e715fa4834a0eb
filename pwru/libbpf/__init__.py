"""libbpf for Python, as thin as it can be: objects, programs, maps and links, each closed by a `with`.

Names and meanings are libbpf's own (libbpf.h, bpf.h). A failed call raises BpfError, an OSError with libbpf's log.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from types import TracebackType
from typing import Self

from ._api import BpfError, BtfInfo, LinkCreateOpts, ObjectOpenOpts, ProgLoadOpts, TestRunOpts, api
from .ringbuf import RingBuffer

__all__ = [
    "BPF_PROG_TYPE_KPROBE",
    "BPF_PROG_TYPE_RAW_TRACEPOINT",
    "BPF_PROG_TYPE_TRACING",
    "BPF_TRACE_FENTRY",
    "BPF_TRACE_FENTRY_MULTI",
    "BPF_TRACE_KPROBE_MULTI",
    "BpfError",
    "Link",
    "Map",
    "Object",
    "Program",
    "RingBuffer",
    "link_fentry",
    "link_fentry_multi",
    "link_kprobe_multi",
    "link_missed",
    "link_raw_tracepoint",
    "map_create_array",
    "module_btf",
    "possible_cpus",
    "prog_load",
    "prog_missed",
    "prog_test_run",
    "version",
]

# enum bpf_map_type, bpf_prog_type and bpf_attach_type, include/uapi/linux/bpf.h
BPF_MAP_TYPE_ARRAY = 2
BPF_PROG_TYPE_KPROBE = 2
BPF_PROG_TYPE_RAW_TRACEPOINT = 17
BPF_PROG_TYPE_TRACING = 26
BPF_TRACE_FENTRY = 24
BPF_TRACE_KPROBE_MULTI = 42
BPF_TRACE_FENTRY_MULTI = 59

_BPF_LINK_CREATE = 28  # enum bpf_cmd
_NR_BPF = {"x86_64": 321, "aarch64": 280}


class _Closing:
    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()


class Link(_Closing):
    """One attachment: a link's (or a perf event's) file descriptor, which is this object's; closing it detaches.

    A copy of its program's is kept for what the kernel counts there: to get one by its id takes CAP_SYS_ADMIN.
    """

    def __init__(self, fd: int, prog_fd: int) -> None:
        self.fd = fd
        try:
            self.prog_fd = os.dup(prog_fd)
        except OSError:
            os.close(fd)
            raise

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            os.close(self.prog_fd)
            self.fd = self.prog_fd = -1


class Program:
    """A program of an object that is open; valid until the object is closed."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    @property
    def name(self) -> str:
        name: bytes = api().bpf_program__name(self._pointer)
        return name.decode()

    @property
    def fd(self) -> int:
        """Of the loaded program; BpfError before the load."""
        return int(api().bpf_program__fd(self._pointer))

    def set_autoload(self, autoload: bool) -> None:
        api().bpf_program__set_autoload(self._pointer, autoload)

    def set_type(self, prog_type: int, expected_attach_type: int) -> None:
        """Before the load: what libbpf would tell from the name of the section, if it knows it."""
        api().bpf_program__set_type(self._pointer, prog_type)
        api().bpf_program__set_expected_attach_type(self._pointer, expected_attach_type)

    def insns(self) -> bytes:
        """The instructions, 8 bytes each: after the load they are what the kernel got, relocations done."""
        count = api().bpf_program__insn_cnt(self._pointer)
        return ctypes.string_at(api().bpf_program__insns(self._pointer), count * 8)


class Map:
    """A map of an object that is open; valid until the object is closed."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    @property
    def fd(self) -> int:
        return int(api().bpf_map__fd(self._pointer))

    @property
    def value_size(self) -> int:
        return int(api().bpf_map__value_size(self._pointer))

    @property
    def max_entries(self) -> int:
        return int(api().bpf_map__max_entries(self._pointer))

    def set_max_entries(self, count: int) -> None:
        """Before the load; for a ring buffer its size in bytes, a power of two of whole pages."""
        api().bpf_map__set_max_entries(self._pointer, count)

    def set_initial_value(self, value: bytes) -> None:
        """Contents of a global data section (.rodata, .data), before the load; ValueError if the size differs."""
        size = ctypes.c_size_t()
        address = api().bpf_map__initial_value(self._pointer, ctypes.byref(size))
        if len(value) != size.value:
            raise ValueError(f"{len(value)} bytes for a section of {size.value}")
        ctypes.memmove(address, value, len(value))

    def lookup(self, key: bytes) -> bytes:
        value = ctypes.create_string_buffer(self.value_size)
        api().bpf_map_lookup_elem(self.fd, key, value)
        return value.raw

    def lookup_percpu(self, key: bytes) -> list[bytes]:
        """The values of a per-CPU map on all possible CPUs; the kernel pads each to 8 bytes."""
        size = (self.value_size + 7) & ~7
        values = ctypes.create_string_buffer(size * possible_cpus())
        api().bpf_map_lookup_elem(self.fd, key, values)
        return [values.raw[at : at + self.value_size] for at in range(0, len(values), size)]

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        api().bpf_map_update_elem(self.fd, key, value, flags)


class Object(_Closing):
    """A BPF object: opened from an ELF image, changed, then loaded into the kernel. Closing it unloads it."""

    def __init__(self, image: bytes, name: str, btf_custom_path: str | None = None) -> None:
        """`name` names the maps of global data; `btf_custom_path` is BTF for CO-RE instead of the kernel's own."""
        # libbpf reads the image until the load, so it must live as long as the object.
        self._image = image
        opts = ObjectOpenOpts(
            object_name=name.encode(),
            btf_custom_path=os.fsencode(btf_custom_path) if btf_custom_path else None,
        )
        self._pointer = api().bpf_object__open_mem(image, len(image), ctypes.byref(opts))

    def close(self) -> None:
        if self._pointer:
            api().bpf_object__close(self._pointer)
            self._pointer = 0

    def load(self) -> None:
        """Relocates and loads every program with autoload on; BpfError with the verifier's log."""
        api().bpf_object__load(self._pointer)

    def program(self, name: str) -> Program:
        return Program(api().bpf_object__find_program_by_name(self._pointer, name.encode()))

    def programs(self) -> list[Program]:
        found = []
        pointer = None
        while pointer := api().bpf_object__next_program(self._pointer, pointer):
            found.append(Program(pointer))
        return found

    def map(self, name: str) -> Map:
        return Map(api().bpf_object__find_map_by_name(self._pointer, name.encode()))

    def maps(self) -> list[Map]:
        found = []
        pointer = None
        while pointer := api().bpf_object__next_map(self._pointer, pointer):
            found.append(Map(pointer))
        return found

    def btf(self) -> bytes:
        """The object's own BTF, as it stands in its .BTF section."""
        size = ctypes.c_uint32()
        address = api().btf__raw_data(api().bpf_object__btf(self._pointer), ctypes.byref(size))
        return ctypes.string_at(address, size.value)


def version() -> str:
    text: bytes = api().libbpf_version_string()
    return text.decode().removeprefix("v")


def possible_cpus() -> int:
    return int(api().libbpf_num_possible_cpus())


def prog_load(
    prog_type: int,
    insns: bytes,
    *,
    name: str = "pwru",
    expected_attach_type: int = 0,
    attach_btf_id: int = 0,
    attach_btf_obj_fd: int = 0,
) -> int:
    """Loads bare instructions as a GPL program; the file descriptor is the caller's to close.

    `attach_btf_id` is the function that a program of type TRACING is for, in the BTF of the module behind
    `attach_btf_obj_fd` (0: vmlinux).
    """
    opts = ProgLoadOpts(
        expected_attach_type=expected_attach_type, attach_btf_id=attach_btf_id, attach_btf_obj_fd=attach_btf_obj_fd
    )
    return int(api().bpf_prog_load(prog_type, name.encode(), b"GPL", insns, len(insns) // 8, ctypes.byref(opts)))


def map_create_array(value: bytes, name: str = "pwru") -> int:
    """A map as global data is in: an array of this one value; the file descriptor is the caller's to close."""
    fd = int(api().bpf_map_create(BPF_MAP_TYPE_ARRAY, name.encode(), 4, len(value), 1, None))
    try:
        api().bpf_map_update_elem(fd, bytes(4), value, 0)
    except BpfError:
        os.close(fd)
        raise
    return fd


def prog_test_run(fd: int, *, data: bytes | None = None, ctx: bytes | None = None, repeat: int = 1) -> tuple[int, int]:
    """BPF_PROG_TEST_RUN: the program's return value and the nanoseconds a run."""
    opts = TestRunOpts(repeat=0 if data is None else repeat)
    if data is not None:
        opts.data_in, opts.data_size_in = data, len(data)
    if ctx is not None:
        opts.ctx_in, opts.ctx_size_in = ctx, len(ctx)
    api().bpf_prog_test_run_opts(fd, ctypes.byref(opts))
    return opts.retval, opts.duration


def link_raw_tracepoint(prog_fd: int, name: str) -> Link:
    return Link(api().bpf_raw_tracepoint_open(name.encode(), prog_fd), prog_fd)


def link_kprobe_multi(prog_fd: int, addresses: list[int]) -> Link:
    """Attaches to function entries by address (since v5.18, commit 0dcac2725406 ("bpf: Add multi kprobe link"))."""
    opts = LinkCreateOpts(cnt=len(addresses))
    packed = struct.pack(f"={len(addresses)}Q", *addresses)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    opts.addrs = ctypes.addressof(buffer)
    return Link(api().bpf_link_create(prog_fd, 0, BPF_TRACE_KPROBE_MULTI, ctypes.byref(opts)), prog_fd)


def link_fentry(prog_fd: int) -> Link:
    """Attaches a program of type TRACING to the function that it was loaded for."""
    return Link(api().bpf_raw_tracepoint_open(None, prog_fd), prog_fd)


def link_fentry_multi(prog_fd: int, btf_ids: list[int]) -> Link:
    """Attaches to the entries of functions by their ids in the BTF that the program was loaded with (since v7.2)."""
    ids = (ctypes.c_uint32 * len(btf_ids))(*btf_ids)
    # union bpf_attr, link_create: prog_fd, target_fd, attach_type, flags, and of tracing_multi ids, cookies, cnt
    attr = struct.pack("=IIIIQQI4x", prog_fd, 0, BPF_TRACE_FENTRY_MULTI, 0, ctypes.addressof(ids), 0, len(btf_ids))
    return Link(_bpf(_BPF_LINK_CREATE, attr), prog_fd)


# What is read of struct bpf_link_info and struct bpf_prog_info, include/uapi/linux/bpf.h; an older kernel leaves 0.
_LINK_INFO = struct.Struct("=I28xQ")  # type, kprobe_multi.missed (since v6.7, commit e2b2cd592aba)
_PROG_INFO = struct.Struct("=4xI200xQ")  # id, recursion_misses (since v5.12, commit 9ed9e9ba2337)
_BPF_LINK_TYPE_KPROBE_MULTI = 8


def link_missed(link: Link) -> int:
    """How often a BPF link did not run its program, as far as the kernel counts that."""
    kind, missed = _LINK_INFO.unpack_from(_info(link.fd))
    return int(missed) if kind == _BPF_LINK_TYPE_KPROBE_MULTI else 0


def prog_missed(link: Link) -> tuple[int, int]:
    """The id of the link's program, and how often that was not run because one was running on that CPU."""
    prog_id, missed = _PROG_INFO.unpack_from(_info(link.prog_fd))
    return int(prog_id), int(missed)


def _info(fd: int) -> bytes:
    info = ctypes.create_string_buffer(256)
    api().bpf_obj_get_info_by_fd(fd, info, ctypes.byref(ctypes.c_uint32(len(info))))
    return info.raw


def module_btf(name: str) -> int:
    """A descriptor of this module's BTF, the caller's to close; ENOENT if it has none. It takes CAP_SYS_ADMIN."""
    btf_id = ctypes.c_uint32(0)
    while True:
        api().bpf_btf_get_next_id(btf_id.value, ctypes.byref(btf_id))
        try:
            fd = int(api().bpf_btf_get_fd_by_id(btf_id.value))
        except BpfError as error:
            if error.errno != errno.ENOENT:
                raise
            continue  # gone since
        if _kernel_btf_name(fd) == name:
            return fd
        os.close(fd)


def _kernel_btf_name(fd: int) -> str | None:
    """The module's name, `vmlinux`, or None for BTF of a program."""
    name = ctypes.create_string_buffer(64)
    info = BtfInfo(name=ctypes.addressof(name), name_len=len(name))
    api().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(ctypes.c_uint32(ctypes.sizeof(info))))
    return name.value.decode() if info.kernel_btf else None


def _bpf(command: int, attr: bytes) -> int:
    """bpf(2), for what the oldest libbpf cannot do."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    number = ctypes.c_long(_NR_BPF[os.uname().machine])
    result = int(syscall(number, ctypes.c_int(command), attr, ctypes.c_uint(len(attr))))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
