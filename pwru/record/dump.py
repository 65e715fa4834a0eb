"""The bytes of a kernel struct as text by its shape, like the kernel's own bpf_snprintf_btf().

Zeros are left out. Unlike in the kernel's text, bitfields are decimal, and arrays of text are strings.

A shape (kernel.shapes) becomes a tree of functions once. Those of structs cache text: most of a packet stays the same
along its way. A shape may be of a file: what it says is checked, and cannot ask for much text or memory.
"""

from collections.abc import Callable
from typing import Any

from pwru.errors import printable
from pwru.kernel.shapes import MAX_DEPTH, Shape

_Show = Callable[[bytes], str]  # makes text from the bytes of a value, "" if it is zero

_MAX_CACHED = 1 << 24  # bytes and characters
_MAX_ELEMENTS = 64
_MAX_BYTES = 1 << 10  # of an array of bytes are shown
_MAX_NUMBER = 16  # bytes: of __int128
_MAX_SIZE = 1 << 16  # of whatever a shape tells, in bytes or bits
_MAX_SHAPES = 1 << 12  # within one, and names of numbers: ten times those of a struct sk_buff
_MAX_NAME = 256
_MAX_TEXT = 1 << 16


class Dump:
    """Makes text of the structs with this shape."""

    def __init__(self, spelled: str, shape: Shape) -> None:
        """Raises ValueError, TypeError, AttributeError or LookupError for what is no shape."""
        self._show = _Tree().value(shape, 0)
        self._type = _name(spelled)

    def __call__(self, raw: bytes) -> str:
        return f"({self._type}){self._show(raw) or '{}'}"[:_MAX_TEXT]


def _name(text: str) -> str:
    return printable(text[:_MAX_NAME])


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_SIZE:
        raise ValueError
    return value


class _Tree:
    """The functions of one shape, which share the room for text that is kept."""

    def __init__(self) -> None:
        self._shapes = self._cached = 0
        self._caches: list[dict[bytes, str]] = []

    def value(self, shape: Shape, depth: int) -> _Show:
        self._count(1)
        if depth > MAX_DEPTH:
            raise ValueError("it is too deep")
        what, *rest = shape
        if what == "struct":
            return self._struct(depth, *rest)
        return self._array(depth, *rest) if what == "array" else _LEAVES[what](*rest)

    def _count(self, shapes: int) -> None:
        self._shapes += shapes
        if self._shapes > _MAX_SHAPES:
            raise ValueError("it is too large")

    def _struct(self, depth: int, members: list[Any]) -> _Show:
        shows = [self._member(depth + 1, *member) for member in members]
        end = " " * depth + "}"
        cache: dict[bytes, str] = {}
        self._caches.append(cache)

        def struct(raw: bytes) -> str:
            text = cache.get(raw)
            if text is None:
                lines = "".join([member(raw) for member in shows])
                text = f"{{\n{lines}{end}" if lines else ""
                self._make_room(len(raw) + len(text))
                cache[raw] = text
            return text

        return struct

    def _make_room(self, size: int) -> None:
        self._cached += size + 200  # as objects
        if self._cached > _MAX_CACHED:
            self._cached = 0
            for cache in self._caches:
                cache.clear()

    def _member(self, depth: int, said: str, at: int, size: int, *value: Any) -> _Show:
        """Return the function that makes this member's line from the bytes of the struct."""
        shift, bits, shape = value
        before, begin, until = " " * depth + _name(said), _size(at), _size(at) + _size(size)
        show = _bits(_size(shift), _size(bits)) if bits else self.value(shape, depth)

        def member(raw: bytes) -> str:
            text = show(raw[begin:until])
            return f"{before}{text},\n" if text else ""

        return member

    def _array(self, depth: int, spelled: str, size: int, shape: Shape) -> _Show:
        show, step = self.value(shape, depth + 1), max(_size(size), 1)
        indent, end = "\n" + " " * (depth + 1), "\n" + " " * depth + "]"
        nested = shape[0] == "struct"
        element = _name(spelled)

        def array(raw: bytes) -> str:
            """Show the elements up to the last that is not zero, so that all are in their places."""
            used = -(-len(raw.rstrip(b"\0")) // step)
            if not used:
                return ""
            shown = [show(raw[at : at + step]) for at in range(0, min(used, _MAX_ELEMENTS) * step, step)]
            if nested:
                return "[" + "".join(f"{indent}({element}){text or '{}'}," for text in shown) + end
            return "[" + "".join(f"{text or 0}," for text in shown) + "]"

        return array


def _bits(shift: int, count: int) -> _Show:
    mask = (1 << min(count, 64)) - 1

    def bits(raw: bytes) -> str:
        value = int.from_bytes(raw, "little") >> shift & mask
        return str(value) if value else ""

    return bits


def _int(signed: bool, names: dict[str, str]) -> _Show:
    if len(names) > _MAX_SHAPES:
        raise ValueError
    known, signed = {int(value): _name(name) for value, name in names.items()}, bool(signed)

    def number(raw: bytes) -> str:
        value = int.from_bytes(raw[:_MAX_NUMBER], "little", signed=signed)
        return known.get(value) or str(value) if value else ""

    return number


def _pointer() -> _Show:
    return lambda raw: f"0x{int.from_bytes(raw[:_MAX_NUMBER], 'little'):x}" if any(raw) else ""


def _bytes() -> _Show:
    def show(raw: bytes) -> str:
        text = raw.rstrip(b"\0")[:_MAX_BYTES]
        if not text:
            return ""
        if all(0x20 <= byte < 0x7F for byte in text) and len(text) > 1:
            return '"' + printable(text.decode()) + '"'
        return "[" + "".join(f"{byte}," for byte in text) + "]"

    return show


_LEAVES: dict[str, Callable[..., _Show]] = {
    "int": _int,
    "ptr": _pointer,
    "bytes": _bytes,
    "none": lambda: lambda _raw: "",
}
