"""The bytes of a kernel struct as text, by its BTF, like the kernel's own bpf_snprintf_btf().

Zeros are left out. Unlike in the kernel's text, bitfields are decimal, and arrays of text are strings.

A type becomes a tree of functions once. Those of structs cache text: most of a packet stays the same along its way.
"""

from collections.abc import Callable

from pwru.errors import printable
from pwru.kernel.btf import ARRAY, ENUM, ENUM64, INT, PTR, STRUCT, UNION, Btf, BtfError

_Show = Callable[[bytes], str]  # makes text from the bytes of a value, "" if it is zero

_MAX_CACHED = 1 << 10  # per struct
_MAX_ELEMENTS = 64
_MAX_DEPTH = 32


class Dump:
    """Makes text of the structs with this name."""

    def __init__(self, btf: Btf, name: str) -> None:
        """Raises PwruError if the BTF is damaged."""
        type_id = btf.find(name, STRUCT)
        assert type_id is not None
        self._btf = btf
        self._structs: dict[tuple[int, int], _Show] = {}
        self._show = self._value(type_id, 0)
        self._type = btf.spelled(type_id)

    def __call__(self, raw: bytes) -> str:
        return f"({self._type}){self._show(raw) or '{}'}"

    def _value(self, type_id: int, depth: int) -> _Show:
        type_ = self._btf.type(type_id)
        if depth > _MAX_DEPTH:
            raise BtfError("BTF is damaged: a struct contains itself")
        if type_.kind in (STRUCT, UNION):
            key = type_.id, depth
            if key not in self._structs:
                self._structs[key] = self._struct(*key)
            return self._structs[key]
        if type_.kind == ARRAY:
            return self._array(type_.target, type_.elements, depth)
        if type_.kind == PTR:
            return lambda raw: f"0x{int.from_bytes(raw, 'little'):x}" if any(raw) else ""
        names: dict[int, str] = {}
        if type_.kind in (ENUM, ENUM64):
            names = self._btf.values(type_.id)
        elif type_.kind != INT:
            return lambda raw: ""  # a type that is only declared, or a float
        signed = type_.signed

        def number(raw: bytes) -> str:
            value = int.from_bytes(raw, "little", signed=signed)
            return names.get(value) or str(value) if value else ""

        return number

    def _struct(self, type_id: int, depth: int) -> _Show:
        members = [self._member(*member, depth + 1) for member in self._btf.parts(type_id)]
        end = " " * depth + "}"
        cache: dict[bytes, str] = {}

        def struct(raw: bytes) -> str:
            text = cache.get(raw)
            if text is None:
                lines = "".join([member(raw) for member in members])
                text = f"{{\n{lines}{end}" if lines else ""
                if len(cache) >= _MAX_CACHED:
                    cache.clear()
                cache[raw] = text
            return text

        return struct

    def _member(self, name: str, type_id: int, bit_offset: int, bit_size: int, depth: int) -> _Show:
        """Return the function that makes this member's line from the bytes of the struct."""
        before = " " * depth + (f".{name} = " if name else "") + f"({self._btf.spelled(type_id)})"
        if bit_size:
            start, shift = divmod(bit_offset, 8)
            end, mask = (bit_offset + bit_size + 7) // 8, (1 << bit_size) - 1

            def bits(raw: bytes) -> str:
                value = int.from_bytes(raw[start:end], "little") >> shift & mask
                return f"{before}{value},\n" if value else ""

            return bits
        at = bit_offset // 8
        until = at + self._btf.type(type_id).size
        show = self._value(type_id, depth)

        def member(raw: bytes) -> str:
            text = show(raw[at:until])
            return f"{before}{text},\n" if text else ""

        return member

    def _array(self, type_id: int, count: int, depth: int) -> _Show:
        element = self._btf.type(type_id)
        size = element.size
        if not count or not size:
            return lambda raw: ""
        if element.kind == INT and size == 1:
            return _bytes
        show = self._value(type_id, depth + 1)
        indent, end = "\n" + " " * (depth + 1), "\n" + " " * depth + "]"
        nested = element.kind in (STRUCT, UNION)
        spelled = self._btf.spelled(type_id)

        def array(raw: bytes) -> str:
            """Show the elements up to the last that is not zero, so that all are in their places."""
            used = -(-len(raw.rstrip(b"\0")) // size)
            if not used:
                return ""
            shown = [show(raw[at : at + size]) for at in range(0, min(used, _MAX_ELEMENTS) * size, size)]
            if nested:
                return "[" + "".join(f"{indent}({spelled}){text or '{}'}," for text in shown) + end
            return "[" + "".join(f"{text or 0}," for text in shown) + "]"

        return array


def _bytes(raw: bytes) -> str:
    text = raw.rstrip(b"\0")
    if not text:
        return ""
    if all(0x20 <= byte < 0x7F for byte in text) and len(text) > 1:
        return '"' + printable(text.decode()) + '"'
    return "[" + "".join(f"{byte}," for byte in text) + "]"
