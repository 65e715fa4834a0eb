"""All BPF programs of the kernel: what it tells about each. Takes CAP_SYS_ADMIN."""

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ._api import BpfError, BtfInfo, MapInfo, ProgInfo, api, get_info

_FUNC_INFO = 8  # struct bpf_func_info: insn_off, type_id
_MAP_TYPE_PROG_ARRAY = 3  # enum bpf_map_type, include/uapi/linux/bpf.h


class ProgramInfo(NamedTuple):
    """One loaded program.

    `prog_type` is an enum bpf_prog_type. `name` is cut at 15 bytes. `jited`: compiled to machine code, which begins at
    `address` (0: the kernel hides that). `btf`: its own BTF, b"" without; `main` is the id of its main function there.
    `code`: where the machine code of each of its functions begins, and its length.
    """

    id: int
    prog_type: int
    name: str
    jited: bool
    address: int
    btf: bytes
    main: int
    code: tuple[tuple[int, int], ...] = ()


class MapUse(NamedTuple):
    """A map: its enum bpf_map_type, and its name, which is cut at 15 bytes."""

    map_type: int
    name: str


def program_ids(after: int = 0) -> list[int]:
    """Return the ids of the programs that exist, from this one on: each new program gets a higher one."""
    return list(_ids(api().bpf_prog_get_next_id, after))


def _ids(following: Callable[..., int], last: int = 0) -> Iterator[int]:
    found = ctypes.c_uint32(last)
    while True:
        try:
            following(found.value, ctypes.byref(found))
        except BpfError as error:
            if error.errno != errno.ENOENT:
                raise
            return
        yield found.value


@contextmanager
def program(prog_id: int) -> Iterator[int]:
    """Yield a descriptor of the program. Raises OSError if it is gone."""
    with _closing(api().bpf_prog_get_fd_by_id(prog_id)) as fd:
        yield fd


@contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def program_type(fd: int) -> int:
    return int(_prog_info(fd).type)


def program_info(fd: int) -> ProgramInfo:
    counted = _prog_info(fd)
    functions = ctypes.create_string_buffer(max(_FUNC_INFO * counted.nr_func_info, _FUNC_INFO))
    addresses = (ctypes.c_uint64 * max(counted.nr_jited_ksyms, 1))()
    lengths = (ctypes.c_uint32 * max(counted.nr_jited_func_lens, 1))()
    info = _prog_info(
        fd,
        nr_func_info=counted.nr_func_info,
        func_info_rec_size=_FUNC_INFO,
        func_info=ctypes.addressof(functions),
        nr_jited_ksyms=counted.nr_jited_ksyms,
        jited_ksyms=ctypes.addressof(addresses),
        nr_jited_func_lens=counted.nr_jited_func_lens,
        jited_func_lens=ctypes.addressof(lengths),
    )
    main = int.from_bytes(functions.raw[4:_FUNC_INFO], "little") if info.nr_func_info else 0
    return ProgramInfo(
        id=info.id,
        prog_type=info.type,
        name=info.name.decode(errors="backslashreplace"),
        jited=bool(info.jited_prog_len),
        address=addresses[0],
        btf=_btf(info.btf_id) if info.btf_id else b"",
        main=main,
        code=tuple(zip(addresses, lengths, strict=False)),
    )


def instructions(fd: int) -> bytes:
    """Return what the verifier has made of the program's instructions; b"" if the kernel hides them."""
    size = _prog_info(fd).xlated_prog_len
    insns = ctypes.create_string_buffer(max(size, 1))
    info = _prog_info(fd, xlated_prog_len=size, xlated_prog_insns=ctypes.addressof(insns))
    return insns.raw[:size] if info.xlated_prog_insns else b""


def map_use(map_id: int) -> MapUse:
    """Return what map it is. Raises OSError if it is gone."""
    with _closing(api().bpf_map_get_fd_by_id(map_id)) as fd:
        info = MapInfo()
        get_info(fd, info)
        return MapUse(info.type, info.name.decode(errors="backslashreplace"))


def in_program_arrays() -> set[int]:
    """Return the ids of the programs that are in some map for tail calls."""
    found: set[int] = set()
    for map_id in _ids(api().bpf_map_get_next_id):
        try:
            fd = api().bpf_map_get_fd_by_id(map_id)
        except BpfError:
            continue  # gone meanwhile
        with _closing(fd):
            info = MapInfo()
            get_info(fd, info)
            if info.type == _MAP_TYPE_PROG_ARRAY:
                found.update(_programs_in(fd, info.max_entries))
    return found


def _programs_in(fd: int, entries: int) -> Iterator[int]:
    value = ctypes.c_uint32(0)
    for key in range(entries):
        try:
            api().bpf_map_lookup_elem(fd, key.to_bytes(4, "little"), ctypes.byref(value))
        except BpfError:
            continue  # nothing is there
        yield value.value


def _prog_info(fd: int, **members: int) -> ProgInfo:
    info = ProgInfo(**members)
    get_info(fd, info)
    return info


def _btf(btf_id: int) -> bytes:
    with _closing(api().bpf_btf_get_fd_by_id(btf_id)) as fd:
        info = BtfInfo()
        get_info(fd, info)
        data = ctypes.create_string_buffer(max(info.btf_size, 1))
        info = BtfInfo(btf=ctypes.addressof(data), btf_size=info.btf_size)
        get_info(fd, info)
        return data.raw[: info.btf_size]
