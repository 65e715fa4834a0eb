"""A BPF object, its programs and maps, and links: the things of libbpf that have a life of their own."""

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from typing import Self

from pwru.errors import PwruError

from ._api import BpfError, ObjectOpenOpts, api

# The members that are read of struct bpf_link_info and struct bpf_prog_info, include/uapi/linux/bpf.h.
_LINK_INFO = struct.Struct("=I28xQ")  # type, kprobe_multi.missed (since v6.7, commit e2b2cd592aba)
_PROG_INFO = struct.Struct("=4xI200xQ")  # id, recursion_misses (since v5.12, commit 9ed9e9ba2337)
_BPF_LINK_TYPE_KPROBE_MULTI = 8


class Link:
    """One attachment: the file descriptor of a link or a perf event, which it owns; closing it detaches.

    It keeps a copy of the program's descriptor for the program's counters: to get one by id takes CAP_SYS_ADMIN.
    """

    def __init__(self, fd: int, prog_fd: int) -> None:
        self.fd = fd
        try:
            self.prog_fd = os.dup(prog_fd)
        except OSError:
            os.close(fd)
            raise

    def close(self) -> None:
        """Detach. May be called more than once."""
        if self.fd >= 0:
            os.close(self.fd)
            os.close(self.prog_fd)
            self.fd = self.prog_fd = -1

    def missed(self) -> int:
        """Return how often the link did not run its program, if the kernel counts that."""
        link_type, missed = _LINK_INFO.unpack_from(_info(self.fd))
        return int(missed) if link_type == _BPF_LINK_TYPE_KPROBE_MULTI else 0

    def program_missed(self) -> tuple[int, int]:
        """Return the program's id, and how often it was not run because a program was running on that CPU."""
        prog_id, missed = _PROG_INFO.unpack_from(_info(self.prog_fd))
        return int(prog_id), int(missed)


class Program:
    """A program of an open object; valid until the object is closed."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    @property
    def name(self) -> str:
        name: bytes = api().bpf_program__name(self._pointer)
        return name.decode()

    @property
    def fd(self) -> int:
        """The descriptor of the loaded program. Raises BpfError before the load."""
        return int(api().bpf_program__fd(self._pointer))

    @property
    def autoload(self) -> bool:
        return bool(api().bpf_program__autoload(self._pointer))

    def set_autoload(self, autoload: bool) -> None:
        api().bpf_program__set_autoload(self._pointer, autoload)

    def set_type(self, prog_type: int, expected_attach_type: int) -> None:
        """Set what libbpf does not know from the name of the section; before the load."""
        api().bpf_program__set_type(self._pointer, prog_type)
        api().bpf_program__set_expected_attach_type(self._pointer, expected_attach_type)

    def insns(self) -> bytes:
        """Return the instructions, 8 bytes each; after the load, as the kernel got them, with all relocations."""
        count = api().bpf_program__insn_cnt(self._pointer)
        return ctypes.string_at(api().bpf_program__insns(self._pointer), count * 8)


class Map:
    """A map of an open object; valid until the object is closed."""

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
        """Set the capacity, before the load; of a ring buffer, its bytes: a power of two of whole pages."""
        api().bpf_map__set_max_entries(self._pointer, count)

    def set_initial_value(self, value: bytes) -> None:
        """Fill a section of global data (.rodata, .data), before the load. Raises ValueError if the size differs."""
        size = ctypes.c_size_t()
        address = api().bpf_map__initial_value(self._pointer, ctypes.byref(size))
        if len(value) != size.value:
            raise ValueError(f"{len(value)} bytes for a section of {size.value}")
        ctypes.memmove(address, value, len(value))

    def lookup_percpu(self, key: bytes) -> list[bytes]:
        """Return the values of a per-CPU map on all possible CPUs; the kernel pads each to 8 bytes."""
        size = (self.value_size + 7) & ~7
        values = ctypes.create_string_buffer(size * possible_cpus())
        api().bpf_map_lookup_elem(self.fd, key, values)
        return [values.raw[offset : offset + self.value_size] for offset in range(0, len(values), size)]

    def lookup(self, key: bytes) -> bytes | None:
        """Return the value of a key of a hash; None if it has none."""
        value = ctypes.create_string_buffer(self.value_size)
        try:
            api().bpf_map_lookup_elem(self.fd, key, value)
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return value.raw

    def values(self, key_size: int) -> Iterator[bytes]:
        """Yield the values of a hash; complete only while nobody writes to it."""
        key, value = ctypes.create_string_buffer(key_size), ctypes.create_string_buffer(self.value_size)
        before = None
        while True:
            try:
                api().bpf_map_get_next_key(self.fd, before, key)
                api().bpf_map_lookup_elem(self.fd, key, value)
            except BpfError as error:
                if error.errno == errno.ENOENT:
                    return
                raise
            before = key.raw
            yield value.raw

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        api().bpf_map_update_elem(self.fd, key, value, flags)


class Object:
    """A BPF object: opened from an ELF image, changed, then loaded into the kernel."""

    def __init__(self, image: bytes, name: str, btf_custom_path: str | None = None) -> None:
        """`name` names the maps of global data; `btf_custom_path` is BTF for CO-RE instead of the kernel's own."""
        self._image = image  # libbpf reads the image until the load, so it must live as long as the object
        opts = ObjectOpenOpts(
            object_name=name.encode(), btf_custom_path=os.fsencode(btf_custom_path) if btf_custom_path else None
        )
        self._pointer = api().bpf_object__open_mem(image, len(image), ctypes.byref(opts))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unload what nothing is attached to. May be called more than once."""
        if self._pointer:
            api().bpf_object__close(self._pointer)
            self._pointer = 0

    def load(self) -> None:
        """Relocate and load every program with autoload on. Raises BpfError with the verifier's log."""
        api().bpf_object__load(self._pointer)

    def program(self, name: str) -> Program:
        return Program(api().bpf_object__find_program_by_name(self._pointer, name.encode()))

    def programs(self) -> list[Program]:
        return [Program(pointer) for pointer in self._each(api().bpf_object__next_program)]

    def loaded(self) -> list[int]:
        """Return the descriptors of the programs that are in the kernel."""
        pointers = self._each(api().bpf_object__next_program)
        return [program.fd for program in map(Program, pointers) if program.autoload]

    def map(self, name: str) -> Map:
        return Map(api().bpf_object__find_map_by_name(self._pointer, name.encode()))

    def maps(self) -> list[Map]:
        return [Map(pointer) for pointer in self._each(api().bpf_object__next_map)]

    def btf(self) -> bytes:
        """Return the object's own BTF, its .BTF section."""
        size = ctypes.c_uint32()
        address = api().btf__raw_data(api().bpf_object__btf(self._pointer), ctypes.byref(size))
        return ctypes.string_at(address, size.value)

    def _each(self, following: Callable[[int, int | None], int | None]) -> Iterator[int]:
        pointer = None
        while pointer := following(self._pointer, pointer):
            yield pointer


def possible_cpus() -> int:
    """Return how many values a per-CPU map has. Raises PwruError where /sys does not tell."""
    try:
        return int(api().libbpf_num_possible_cpus())
    except BpfError as error:
        reason = os.strerror(error.errno or 0)
        raise PwruError(
            f"cannot read the number of CPUs from /sys/devices/system/cpu/possible ({reason}): /sys is hidden here, or"
            " not mounted; run it on the host, or in a privileged container"
        ) from None


def _info(fd: int) -> bytes:
    info = ctypes.create_string_buffer(256)
    api().bpf_obj_get_info_by_fd(fd, info, ctypes.byref(ctypes.c_uint32(len(info))))
    return info.raw
