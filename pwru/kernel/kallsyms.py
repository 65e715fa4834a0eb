"""The kernel's symbols: the addresses of a function, and the function at an address.

/proc/kallsyms is 4 to 9 MB of text that the kernel makes while it is read, which takes longer than anything done with
it here. The symbols of vmlinux come first, sorted by address (scripts/kallsyms.c), so its functions end at `_etext`:
reading stops there and goes on only for symbols after that, such as those of modules.

The text is searched as it is: lines that are not asked for, 100 000 of them, are never parsed.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from io import BytesIO, FileIO
from operator import itemgetter
from typing import NamedTuple

from pwru.errors import PwruError

KALLSYMS = "/proc/kallsyms"

_CHUNK = 1 << 18
_PAGE_BITS = 12
_BUFFERED = 1 << 14  # more than the kernel makes ahead of what is read
_TEXT = re.compile(rb"^([0-9a-f]+) [tT] _text\n", re.MULTILINE)
_END = b" T _etext\n"
_FUNCTION_TYPES = (b"t", b"T", b"w", b"W")
_WHOLE_FUNCTION = ("isra", "constprop", "llvm")
_HIDDEN = (
    "the kernel hides the addresses in it; to be shown them takes CAP_SYSLOG, and the sysctl"
    " kernel.kptr_restrict at 0 or 1"
)
_LONGEST_FUNCTION = 1 << 20  # an address further after the last known function is in code without symbols


class KallsymsError(PwruError):
    """The kernel has no symbols, or hides their addresses from this process."""


class Symbol(NamedTuple):
    """The function that contains an address, and the offset in it. If it has several names, the first one counts.

    `module` is None for vmlinux. Code made at run time has "modules" of its own: `bpf` (programs, named
    bpf_prog_TAG_NAME), `__builtin__ftrace` and `__builtin__kprobes` (trampolines).
    """

    name: str
    module: str | None
    offset: int


def source_name(name: str) -> str | None:
    """Return the name in the source of a function that the compiler renamed; None for a part, or any other name.

    `foo.isra.0` and `foo.constprop.0` are foo with fewer parameters. If foo is in BTF all the same, the parameters that
    it has left are where they were: pahole omits other functions. `foo.llvm.123` is foo, `foo.part.0` a part of it.
    """
    base, *suffixes = name.split(".")
    if suffixes and all(suffix.isdecimal() or suffix in _WHOLE_FUNCTION for suffix in suffixes):
        return base
    return None


def text_start(path: str = KALLSYMS) -> int | None:
    """Return where the code of vmlinux begins, the one thing about its symbols that changes with every boot (KASLR).

    None if there is no such symbol. Raises KallsymsError.
    """
    data = b""
    try:
        with FileIO(path) as file:
            while not (found := _TEXT.search(data)):
                chunk = file.read(_CHUNK)
                if not chunk:
                    return None
                data += chunk
    except OSError as error:
        raise KallsymsError(f"cannot read {path}: {error.strerror}") from None
    address = int(found[1], 16)
    if not address:
        raise KallsymsError(f"{path}: {_HIDDEN}")
    return address


class Kallsyms:
    """Functions: symbols of type t, T, w and W, without the code that is discarded after boot (.init.text)."""

    def __init__(self, file: FileIO, chunk: int = _CHUNK) -> None:
        """`chunk`: how many bytes are read at a time up to the end of vmlinux."""
        self._file = file
        self._read_to_the_end = False
        self._kernel, self._ahead = self._read_kernel(chunk)
        self._before_modules = 0  # bytes in the file
        self._modules = _Modules(self._read_modules)
        self._former: _Modules | None = None
        # "ffffffff81000000 T _text": all addresses have the same width.
        self._name_at = self._kernel.find(b" ") + 3
        try:
            self._end = self._address(len(self._kernel) - 1)
        except ValueError:
            raise KallsymsError(
                "it holds no symbols: the kernel has no CONFIG_KALLSYMS, or a container hides them"
            ) from None
        if not self._end:
            raise KallsymsError(_HIDDEN)

    def close(self) -> None:
        """Close the file: the symbols of modules are read from it, and again after forget_modules()."""
        self._file.close()

    def forget_modules(self) -> None:
        """Read the symbols of modules anew when they are next asked for: modules have come or gone.

        What happened in a module that has gone may still have to be named, so the symbols of before are kept.
        """
        if self._modules.were_read:
            self._former = self._modules
            self._modules = _Modules(self._read_modules)

    def prepare(self) -> None:
        """Go as far as the symbols of modules in the file, which takes longest: they can be read quickly then."""
        if not self._modules.symbols or not self._read_to_the_end:
            return  # there are no modules, or it is there already
        self._rewind()
        left = self._before_modules - _BUFFERED
        while left > 0 and (skipped := self._file.read(min(left, _CHUNK))):
            left -= len(skipped)

    @classmethod
    def read(cls, path: str = KALLSYMS, file: FileIO | None = None) -> Kallsyms:
        """Read the symbols of vmlinux, from this file if it is open already. Raises KallsymsError."""
        try:
            # A read gives one page of whole lines, whatever its size: buffering would only copy it.
            return cls(file or FileIO(path))
        except OSError as error:
            raise KallsymsError(f"cannot read {path}: {error.strerror}") from None
        except KallsymsError as error:
            raise KallsymsError(f"{path}: {error}") from None

    def find(self, names: Collection[str], module: str | None = None) -> dict[str, list[int]]:
        """Return the addresses, ascending, of the functions with these names in vmlinux or one module.

        Static functions of different files may share a name. A function that exists only as renamed by the compiler is
        found under the new name: `ip_fragment` as `ip_fragment.constprop.0`.
        """
        if module is not None:
            symbols = self._modules.by_module.get(module, {})
            exact = {name: addresses for name, addresses in symbols.items() if name in names}
            renamed = set(names) - exact.keys()
            return exact | {name: addresses for name, addresses in symbols.items() if source_name(name) in renamed}
        addresses: dict[str, list[int]] = {}
        wanted = {name.encode() for name in names}
        name_at, type_at, end = self._name_at, self._name_at - 2, self._name_at - 3
        for line in BytesIO(self._kernel):
            if line[name_at:-1] in wanted and line[type_at:-1].startswith(_FUNCTION_TYPES):
                addresses.setdefault(line[name_at:-1].decode(), []).append(int(line[:end], 16))
        missing = wanted - {name.encode() for name in addresses}
        for name, address in self._renamed(missing) if missing else ():
            addresses.setdefault(name, []).append(address)
        return addresses

    def in_vmlinux(self, address: int) -> bool:
        """Return whether the address is in vmlinux, as opposed to code that comes and goes: modules, BPF programs."""
        return address < self._end

    def lookup(self, address: int) -> Symbol | None:
        """Return the function that contains the address, or did before forget_modules()."""
        if address < self._end and (symbol := self._lookup_kernel(address)):
            return symbol
        found = self._modules.lookup(address)
        if self._former and not self._modules.covers(address):
            both = filter(None, (found, self._former.lookup(address)))
            return min(both, key=lambda symbol: symbol.offset, default=None)
        return found

    # --- vmlinux: the lines as they are ---

    def _address(self, position: int) -> int:
        """Return the address in the line that contains this byte."""
        line = self._kernel.rfind(b"\n", 0, position) + 1
        return int(self._kernel[line : line + self._name_at - 3], 16)

    def _lookup_kernel(self, address: int) -> Symbol | None:
        positions = range(len(self._kernel))
        position = bisect_right(positions, address, key=self._address) - 1
        if position < 0:
            return None
        start = self._address(position)
        line = bisect_left(positions, start, key=self._address) + self._name_at
        if self._kernel[line - 2 : line - 1] not in _FUNCTION_TYPES:
            return None  # old kernels have per-CPU variables before the text
        return Symbol(self._kernel[line : self._kernel.index(b"\n", line)].decode(), None, address - start)

    def _renamed(self, names: set[bytes]) -> Iterator[tuple[str, int]]:
        """Yield what the compiler made of these functions, without a look at all other names."""
        text = self._kernel
        for suffix in re.finditer(rb"\.(?:%b)\." % "|".join(_WHOLE_FUNCTION).encode(), text):
            dot = suffix.start()
            start = text.rindex(b" ", 0, dot) + 1
            if text[start:dot] in names:
                name = text[start : text.index(b"\n", dot)].decode()
                if source_name(name):
                    yield name, self._address(dot)

    # --- the file ---

    def _rewind(self) -> None:
        """Have the file read anew, not opened: what it shows is up to whoever opened it.

        Since v5.8: commit 160251842cd3 ("kallsyms: Refactor kallsyms_show_value() to take cred").
        """
        self._file.seek(0)
        self._ahead, self._read_to_the_end = b"", False

    def _read_modules(self) -> bytes:
        """Return the lines of modules, which are the last ones: "ffffffffc0000000 t foo\\t[bar]"."""
        if self._read_to_the_end:
            self._rewind()
        position = self._file.tell() - len(self._ahead)
        text = self._ahead + self._file.readall()
        self._ahead, self._read_to_the_end = b"", True
        first = text.rfind(b"\n", 0, max(text.find(b"\t"), 0)) + 1
        self._before_modules = position + first
        return text[first:]

    def _read_kernel(self, chunk: int) -> tuple[bytes, bytes]:
        """Return the lines up to that of _etext (without it, up to the modules), and what was read beyond them."""
        data = bytearray()
        end = -1
        while end < 0 and (lines := self._file.read(chunk)):
            seen = max(0, len(data) - len(_END))
            data += lines
            end = data.find(_END, seen)
        if end >= 0:
            end += len(_END)
        else:
            module = data.find(b"\t")
            end = data.rfind(b"\n", 0, module) + 1 if module >= 0 else len(data)
        read = memoryview(data)
        return bytes(read[:end]), bytes(read[end:])


class _Modules:
    """The symbols of modules, in a text that is made when they are first asked for."""

    def __init__(self, text: Callable[[], bytes]) -> None:
        self._text = text

    @cached_property
    def symbols(self) -> list[tuple[int, str, str]]:
        """Address, name and module of each function, by address."""
        symbols: list[tuple[int, str, str]] = []
        for line in self._text().splitlines():
            if line.endswith(b"]"):
                address, symbol_type, names = line.split(b" ", 2)
                if symbol_type in _FUNCTION_TYPES:
                    name, _, module = names[:-1].decode().partition("\t[")
                    symbols.append((int(address, 16), name, module))
        symbols.sort(key=itemgetter(0))
        return symbols

    @property
    def were_read(self) -> bool:
        return "symbols" in vars(self)

    @cached_property
    def by_module(self) -> dict[str, dict[str, list[int]]]:
        modules: dict[str, dict[str, list[int]]] = {}
        for address, name, module in self.symbols:
            modules.setdefault(module, {}).setdefault(name, []).append(address)
        return modules

    def covers(self, address: int) -> bool:
        """Return whether the address is in one of these modules, rather than behind the last function of one."""
        index = bisect_right(self.symbols, address, key=itemgetter(0))
        before, after = self.symbols[index - 1 : index], self.symbols[index : index + 1]
        if not before:
            return False
        same_page = before[0][0] >> _PAGE_BITS == address >> _PAGE_BITS  # modules share none
        return same_page or (bool(after) and before[0][2] == after[0][2])

    def lookup(self, address: int) -> Symbol | None:
        index = bisect_right(self.symbols, address, key=itemgetter(0)) - 1
        if index < 0:
            return None
        start = self.symbols[index][0]
        _, name, module = self.symbols[bisect_left(self.symbols, start, key=itemgetter(0))]
        return Symbol(name, module, address - start) if address - start < _LONGEST_FUNCTION else None
