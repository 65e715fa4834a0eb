"""The C interface of libbpf: the choice of the library, the table of signatures, the check for errors.

libbpf 1.x reports an error as a negative errno, or as NULL with errno set (libbpf_legacy.h, LIBBPF_STRICT_ALL).
It is private to the package: other code uses `pwru.libbpf`.
"""

import ctypes
from collections import deque
from ctypes import POINTER, c_bool, c_char, c_char_p, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from pwru.errors import PwruError

LIBBPF_WARN, LIBBPF_INFO, LIBBPF_DEBUG = range(3)
MIN_VERSION = (1, 1)


class BpfError(OSError):
    """A failed libbpf call: `errno`, the call and the reason in `strerror`, libbpf's messages in `log`."""

    def __init__(self, errno: int, what: str, log: str) -> None:
        # libbpf has error numbers of its own from 4000 on.
        text = ctypes.create_string_buffer(128)
        api().libbpf_strerror(errno, text, len(text))
        super().__init__(errno, f"{what}: {text.value.decode()}")
        self.log = log


class _Opts(ctypes.Structure):
    """libbpf's extensible options: `sz` is the size known to the caller (LIBBPF_OPTS)."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(sz=ctypes.sizeof(self), **fields)


class ObjectOpenOpts(_Opts):
    _fields_ = (
        ("sz", c_size_t),
        ("object_name", c_char_p),
        ("relaxed_maps", c_bool),
        ("pin_root_path", c_char_p),
        ("_reserved", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
    )


class ProgLoadOpts(_Opts):
    _fields_ = (
        ("sz", c_size_t),
        ("attempts", c_int),
        ("expected_attach_type", c_int),
        ("prog_btf_fd", c_uint32),
        ("prog_flags", c_uint32),
        ("prog_ifindex", c_uint32),
        ("kern_version", c_uint32),
        ("attach_btf_id", c_uint32),
        ("attach_prog_fd", c_uint32),
        ("attach_btf_obj_fd", c_uint32),
        ("fd_array", c_void_p),
        ("func_info", c_void_p),
        ("func_info_cnt", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("line_info", c_void_p),
        ("line_info_cnt", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log_buf", c_char_p),
    )


class LinkCreateOpts(_Opts):
    """bpf_link_create_opts with the kprobe_multi member of its union."""

    _fields_ = (
        ("sz", c_size_t),
        ("flags", c_uint32),
        ("iter_info", c_void_p),
        ("iter_info_len", c_uint32),
        ("target_btf_id", c_uint32),
        ("kprobe_multi_flags", c_uint32),
        ("cnt", c_uint32),
        ("syms", c_void_p),
        ("addrs", c_void_p),
        ("cookies", c_void_p),
    )


class BtfInfo(ctypes.Structure):
    """struct bpf_btf_info, include/uapi/linux/bpf.h; `name` is a buffer of the caller."""

    _fields_ = (
        ("btf", c_uint64),
        ("btf_size", c_uint32),
        ("id", c_uint32),
        ("name", c_uint64),
        ("name_len", c_uint32),
        ("kernel_btf", c_uint32),
    )


class ProgInfo(ctypes.Structure):
    """struct bpf_prog_info, include/uapi/linux/bpf.h, as far as it is read; the arrays are buffers of the caller."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", c_uint8 * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", c_char * 16),
        ("ifindex", c_uint32),
        ("gpl_compatible", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("nr_jited_ksyms", c_uint32),
        ("nr_jited_func_lens", c_uint32),
        ("jited_ksyms", c_uint64),
        ("jited_func_lens", c_uint64),
        ("btf_id", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("func_info", c_uint64),
        ("nr_func_info", c_uint32),
        ("nr_line_info", c_uint32),
    )


class MapInfo(ctypes.Structure):
    """struct bpf_map_info, include/uapi/linux/bpf.h, as far as it is read."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", c_char * 16),
    )


# Result types of the table: an int, negative is -errno; a pointer, NULL is an error in errno.
_Err, _Ptr = object(), object()
_PRINT_FN = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    # name: (result, arguments)
    "libbpf_major_version": (c_uint32, ()),
    "libbpf_minor_version": (c_uint32, ()),
    "libbpf_version_string": (c_char_p, ()),
    "libbpf_strerror": (c_int, (c_int, c_char_p, c_size_t)),
    "libbpf_set_print": (c_void_p, (_PRINT_FN,)),
    "bpf_object__open_mem": (_Ptr, (c_char_p, c_size_t, POINTER(ObjectOpenOpts))),
    "bpf_object__load": (_Err, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__btf": (_Ptr, (c_void_p,)),
    "bpf_object__find_program_by_name": (_Ptr, (c_void_p, c_char_p)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__find_map_by_name": (_Ptr, (c_void_p, c_char_p)),
    "bpf_object__next_map": (c_void_p, (c_void_p, c_void_p)),
    "btf__raw_data": (_Ptr, (c_void_p, POINTER(c_uint32))),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__autoload": (c_bool, (c_void_p,)),
    "bpf_program__set_autoload": (_Err, (c_void_p, c_bool)),
    "bpf_program__set_type": (_Err, (c_void_p, c_int)),
    "bpf_program__set_expected_attach_type": (_Err, (c_void_p, c_int)),
    "bpf_program__fd": (_Err, (c_void_p,)),
    "bpf_program__insns": (_Ptr, (c_void_p,)),
    "bpf_program__insn_cnt": (c_size_t, (c_void_p,)),
    "bpf_map__fd": (_Err, (c_void_p,)),
    "bpf_map__value_size": (c_uint32, (c_void_p,)),
    "bpf_map__set_max_entries": (_Err, (c_void_p, c_uint32)),
    "bpf_map__max_entries": (c_uint32, (c_void_p,)),
    "bpf_map__initial_value": (_Ptr, (c_void_p, POINTER(c_size_t))),
    "bpf_map_create": (_Err, (c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p)),
    "bpf_map_lookup_elem": (_Err, (c_int, c_void_p, c_void_p)),
    "bpf_map_get_next_key": (_Err, (c_int, c_void_p, c_void_p)),
    "bpf_map_update_elem": (_Err, (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_prog_load": (_Err, (c_int, c_char_p, c_char_p, c_void_p, c_size_t, POINTER(ProgLoadOpts))),
    "bpf_raw_tracepoint_open": (_Err, (c_char_p, c_int)),
    "bpf_prog_get_next_id": (_Err, (c_uint32, POINTER(c_uint32))),
    "bpf_prog_get_fd_by_id": (_Err, (c_uint32,)),
    "bpf_map_get_next_id": (_Err, (c_uint32, POINTER(c_uint32))),
    "bpf_map_get_fd_by_id": (_Err, (c_uint32,)),
    "bpf_btf_get_next_id": (_Err, (c_uint32, POINTER(c_uint32))),
    "bpf_btf_get_fd_by_id": (_Err, (c_uint32,)),
    "bpf_obj_get_info_by_fd": (_Err, (c_int, c_void_p, POINTER(c_uint32))),
    "bpf_link_create": (_Err, (c_int, c_int, c_int, POINTER(LinkCreateOpts))),
    "libbpf_num_possible_cpus": (_Err, ()),
}

_messages: deque[str] = deque(maxlen=64)


def _check(result: int | None, func: Any, _args: Any) -> int:
    """Return the result of a call, or raise BpfError."""
    if func.restype is c_void_p:
        errno = 0 if result else ctypes.get_errno()
    else:
        errno = -result if result is not None and result < 0 else 0
    if not errno and result is not None:
        return result
    log = "".join(_messages)
    _messages.clear()
    raise BpfError(errno, func.__name__, log)


def bundled() -> Path | None:
    """Return the library beside this package, which is taken where there is one; see vendor/libbpf/README.md."""
    own = Path(__file__).with_name("libbpf.so")
    return own if own.exists() else None


def _open() -> ctypes.CDLL:
    own = bundled()
    try:
        return ctypes.CDLL(str(own or "libbpf.so.1"), use_errno=True)
    except OSError as error:
        remedy = "" if own else "; install it (Debian, Ubuntu: apt install libbpf1)"
        raise PwruError(f"libbpf cannot be loaded: {error}{remedy}") from None


class Api:
    """libbpf's functions by their own names, with the signatures of the table."""

    def __init__(self) -> None:
        library = _open()
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes = arguments
            if result in (_Err, _Ptr):
                function.restype = c_int if result is _Err else c_void_p
                function.errcheck = _check
            else:
                function.restype = result
            setattr(self, name, function)
        version = (self.libbpf_major_version(), self.libbpf_minor_version())
        if version < MIN_VERSION:
            raise PwruError(
                f"libbpf {version[0]}.{version[1]} is too old: {MIN_VERSION[0]}.{MIN_VERSION[1]} or newer is needed"
            )
        # Kept as attributes: ctypes does not keep a callback alive for the library.
        self._vsnprintf = ctypes.CDLL(None).vsnprintf
        self._vsnprintf.argtypes = (c_void_p, c_size_t, c_char_p, c_void_p)
        self._print = _PRINT_FN(self._collect)
        self.libbpf_set_print(self._print)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name} is not in the table of libbpf's signatures")

    def _collect(self, level: int, fmt: bytes, va_list: int) -> int:
        # A va_list is passed as a pointer on both x86-64 and arm64, so it can be handed on as one.
        if level > LIBBPF_INFO:
            return 0
        # The verifier's log is one message, and its end says what was refused: that must fit.
        size = 1 << 20
        buffer = ctypes.create_string_buffer(size)
        length = int(self._vsnprintf(buffer, size, fmt, va_list))
        _messages.append(buffer.raw[: min(length, size - 1)].decode(errors="replace"))
        return length


_loaded: Api | None = None


def api() -> Api:
    """Return libbpf, loaded at the first call. Raises PwruError if that is impossible."""
    global _loaded  # noqa: PLW0603  (one library per process; loaded late, since most of pwru works without)
    if _loaded is None:
        _loaded = Api()
    return _loaded


def get_info(fd: int, info: ctypes.Structure) -> None:
    """Fill what the kernel tells of the program, map or BTF with this descriptor: bpf_obj_get_info_by_fd()."""
    api().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(ctypes.c_uint32(ctypes.sizeof(info))))
