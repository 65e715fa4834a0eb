"""Writes BTF for the tests, from the format's description (Documentation/bpf/btf.rst), independently of the reader."""

from __future__ import annotations

import struct

_NAMES = (
    *("INT", "PTR", "ARRAY", "STRUCT", "UNION", "ENUM", "FWD", "TYPEDEF", "VOLATILE", "CONST", "RESTRICT", "FUNC"),
    *("FUNC_PROTO", "VAR", "DATASEC", "FLOAT", "DECL_TAG", "TYPE_TAG", "ENUM64"),
)
KINDS = {name: number for number, name in enumerate(_NAMES, 1)}
# Bytes that a record has after struct btf_type, and bytes of each of its vlen entries.
_SIZES = {
    "INT": (4, 0), "ARRAY": (12, 0), "STRUCT": (0, 12), "UNION": (0, 12), "ENUM": (0, 8), "FUNC_PROTO": (0, 8),
    "VAR": (4, 0), "DATASEC": (0, 12), "DECL_TAG": (4, 0), "ENUM64": (0, 12),
}  # fmt: skip
LAYOUT = [(0, 0), *(_SIZES.get(name, (0, 0)) for name in _NAMES)]


class Writer:
    """Every method adds a type and returns its id; `base` makes split BTF."""

    def __init__(self, base: Writer | None = None) -> None:
        self.base = base
        self.types = b""
        self.strings = b"" if base else b"\0"
        self.layout: bytes | None = None  # for a header with a layout table
        self.next_id: int = base.next_id if base else 1
        self._first_string: int = base._first_string + len(base.strings) if base else 0

    def string(self, text: str) -> int:
        if not text:
            return 0
        known = self.strings.find(b"\0" + text.encode() + b"\0")
        if known >= 0:
            return self._first_string + known + 1
        self.strings += text.encode() + b"\0"
        return self._first_string + len(self.strings) - len(text.encode()) - 1

    def add(self, kind: str | int, name: str, size_or_type: int, *words: int, vlen: int = 0, flag: bool = False) -> int:
        info = flag << 31 | (KINDS[kind] if isinstance(kind, str) else kind) << 24 | vlen
        record = (self.string(name), info, size_or_type, *words)
        self.types += struct.pack(f"={len(record)}I", *(word & 0xFFFFFFFF for word in record))
        self.next_id += 1
        return self.next_id - 1

    def integer(self, name: str, size: int, signed: bool = False, bits: int | None = None, bit_offset: int = 0) -> int:
        return self.add("INT", name, size, signed << 24 | bit_offset << 16 | (8 * size if bits is None else bits))

    def ref(self, kind: str, to: int, name: str = "") -> int:
        """PTR, CONST, VOLATILE, RESTRICT, TYPEDEF and TYPE_TAG."""
        return self.add(kind, name, to)

    def array(self, element: int, index: int, elements: int) -> int:
        return self.add("ARRAY", "", 0, element, index, elements)

    def struct(self, name: str, size: int, *members: tuple[str, int, int], kind: str = "STRUCT") -> int:
        """Members are name, type, bit offset."""
        words = [word for member, type_id, offset in members for word in (self.string(member), type_id, offset)]
        return self.add(kind, name, size, *words, vlen=len(members))

    def bitfields(self, name: str, size: int, *members: tuple[str, int, int, int]) -> int:
        """Members are name, type, bit offset, bits or 0."""
        words = [
            word for member, type_id, at, bits in members for word in (self.string(member), type_id, bits << 24 | at)
        ]
        return self.add("STRUCT", name, size, *words, vlen=len(members), flag=True)

    def enum(self, name: str, *values: tuple[str, int], signed: bool = False) -> int:
        words = [word for value in values for word in (self.string(value[0]), value[1])]
        return self.add("ENUM", name, 4, *words, vlen=len(values), flag=signed)

    def enum64(self, name: str, *values: tuple[str, int], signed: bool = False) -> int:
        words = [word for text, value in values for word in (self.string(text), value & 0xFFFFFFFF, value >> 32)]
        return self.add("ENUM64", name, 8, *words, vlen=len(values), flag=signed)

    def proto(self, *parameters: tuple[str, int] | int, returns: int = 0) -> int:
        """Parameters are name and type, or the type; a last 0 is `...`."""
        pairs = [("", parameter) if isinstance(parameter, int) else parameter for parameter in parameters]
        words = [word for name, type_id in pairs for word in (self.string(name), type_id)]
        return self.add("FUNC_PROTO", "", returns, *words, vlen=len(pairs))

    def func(self, name: str, *parameters: tuple[str, int] | int, linkage: int = 0) -> int:
        proto = self.proto(*parameters)
        return self.add("FUNC", name, proto, vlen=linkage)

    def data(self) -> bytes:
        types, strings, layout = len(self.types), len(self.strings), len(self.layout or b"")
        sections = [0, types, types + layout, strings]
        if self.layout is not None:
            sections += [types, layout]
        header = struct.pack(f"=HBBI{len(sections)}I", 0xEB9F, 1, 0, 8 + 4 * len(sections), *sections)
        return header + self.types + (self.layout or b"") + self.strings

    def add_layout(self, *unknown: tuple[int, int]) -> None:
        """Add a table that has the kinds from ENUM64 on, too: for each its bytes, and those of each entry."""
        self.layout = b"".join(struct.pack("=BBH", *sizes, 0) for sizes in (*LAYOUT, *unknown))
