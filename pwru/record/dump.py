"""The bytes of a kernel struct as text by its shape, like the kernel's own bpf_snprintf_btf().

Zeros are left out. Unlike in the kernel's text, bitfields are decimal, and arrays of text are strings.

A shape (kernel.shapes) becomes a tree of functions once. Those of structs cache text: most of a packet stays the same
along its way.
"""

from collections.abc import Callable
from typing import Any

from pwru.errors import printable
from pwru.kernel.shapes import MAX_DEPTH, Shape

_Show = Callable[[bytes], str]  # makes text from the bytes of a value, "" if it is zero

_MAX_CACHED = 1 << 10  # per struct
_MAX_ELEMENTS = 64


class Dump:
    """Makes text of the structs with this shape."""

    def __init__(self, spelled: str, shape: Shape) -> None:
        """Raises ValueError, TypeError or IndexError for what is no shape."""
        self._show = _value(shape, 0)
        self._type = printable(spelled)

    def __call__(self, raw: bytes) -> str:
        return f"({self._type}){self._show(raw) or '{}'}"


def _value(shape: Shape, depth: int) -> _Show:
    if depth > MAX_DEPTH:
        raise ValueError("it is too deep")
    what, *rest = shape
    return _SHAPES[what](depth, *rest)


def _struct(depth: int, members: list[Any]) -> _Show:
    shows = [_member(depth + 1, *member) for member in members]
    end = " " * depth + "}"
    cache: dict[bytes, str] = {}

    def struct(raw: bytes) -> str:
        text = cache.get(raw)
        if text is None:
            lines = "".join([member(raw) for member in shows])
            text = f"{{\n{lines}{end}" if lines else ""
            if len(cache) >= _MAX_CACHED:
                cache.clear()
            cache[raw] = text
        return text

    return struct


def _member(depth: int, said: str, at: int, size: int, *value: Any) -> _Show:
    """Return the function that makes this member's line from the bytes of the struct."""
    shift, bits, shape = value
    before, until = " " * depth + printable(said), at + size
    show = _bits(shift, bits) if bits else _value(shape, depth)

    def member(raw: bytes) -> str:
        text = show(raw[at:until])
        return f"{before}{text},\n" if text else ""

    return member


def _bits(shift: int, count: int) -> _Show:
    mask = (1 << min(count, 64)) - 1

    def bits(raw: bytes) -> str:
        value = int.from_bytes(raw, "little") >> shift & mask
        return str(value) if value else ""

    return bits


def _int(_depth: int, signed: bool, names: dict[str, str]) -> _Show:
    known = {int(value): printable(name) for value, name in names.items()}

    def number(raw: bytes) -> str:
        value = int.from_bytes(raw, "little", signed=signed)
        return known.get(value) or str(value) if value else ""

    return number


def _pointer(_depth: int) -> _Show:
    return lambda raw: f"0x{int.from_bytes(raw, 'little'):x}" if any(raw) else ""


def _array(depth: int, spelled: str, size: int, shape: Shape) -> _Show:
    show = _value(shape, depth + 1)
    indent, end = "\n" + " " * (depth + 1), "\n" + " " * depth + "]"
    nested = shape[0] == "struct"
    element = printable(spelled)

    def array(raw: bytes) -> str:
        """Show the elements up to the last that is not zero, so that all are in their places."""
        used = -(-len(raw.rstrip(b"\0")) // size)
        if not used:
            return ""
        shown = [show(raw[at : at + size]) for at in range(0, min(used, _MAX_ELEMENTS) * size, size)]
        if nested:
            return "[" + "".join(f"{indent}({element}){text or '{}'}," for text in shown) + end
        return "[" + "".join(f"{text or 0}," for text in shown) + "]"

    return array


def _bytes(_depth: int) -> _Show:
    def show(raw: bytes) -> str:
        text = raw.rstrip(b"\0")
        if not text:
            return ""
        if all(0x20 <= byte < 0x7F for byte in text) and len(text) > 1:
            return '"' + printable(text.decode()) + '"'
        return "[" + "".join(f"{byte}," for byte in text) + "]"

    return show


_SHAPES: dict[str, Callable[..., _Show]] = {
    "struct": _struct,
    "array": _array,
    "int": _int,
    "ptr": _pointer,
    "bytes": _bytes,
    "none": lambda _depth: lambda _raw: "",
}
