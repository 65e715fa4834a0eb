"""Reader of BTF, the kernel's type information: which functions and tracepoints carry a packet, layouts, enum values.

Format: Documentation/bpf/btf.rst and include/uapi/linux/btf.h. A type is a record of 32-bit words (name, info, size or
type, then what its kind adds), and types are numbered by their order, so finding anything takes one walk over all
records. The walk only sorts the offsets of records by their info words; everything after it works on whole lists in C
(itemgetter, compress, set membership), because vmlinux has more than 100 000 types and the user waits for this.
Nothing becomes a Python object but what is asked for.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import compress, repeat
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from pwru.errors import PwruError

VMLINUX = "/sys/kernel/btf/vmlinux"

(
    INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC,
    FLOAT, DECL_TAG, TYPE_TAG, ENUM64,
) = range(1, 20)  # fmt: skip

# Words that a record takes, and words that each of its vlen entries adds.
_WORDS = {
    INT: (4, 0), PTR: (3, 0), ARRAY: (6, 0), STRUCT: (3, 3), UNION: (3, 3), ENUM: (3, 2), FWD: (3, 0), TYPEDEF: (3, 0),
    VOLATILE: (3, 0), CONST: (3, 0), RESTRICT: (3, 0), FUNC: (3, 0), FUNC_PROTO: (3, 2), VAR: (4, 0), DATASEC: (3, 3),
    FLOAT: (3, 0), DECL_TAG: (4, 0), TYPE_TAG: (3, 0), ENUM64: (3, 3),
}  # fmt: skip

_MODIFIERS = (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG)
_MAGIC = 0xEB9F
_HEADER = struct.Struct("=HBBIIIII")
# How deep arrays, modifiers and anonymous structs may be nested, as in libbpf (MAX_RESOLVE_DEPTH); ends cycles.
_MAX_DEPTH = 32
_MAX_MEMBERS = 1 << 16  # of one struct with its anonymous members; vlen has 16 bits
_INT_SIGNED = 1
# MAX_BPF_FUNC_ARGS, and the bytes that two registers hold.
_TRAMPOLINE_ARGS = 12
_TRAMPOLINE_STRUCT = 16


class BtfError(PwruError):
    """The data are not BTF, or damaged."""


class Function(NamedTuple):
    """A function with a pointer to the struct among its parameters; the first such parameter counts.

    Positions are 1-based. `double_pointer`: the parameter is `struct sk_buff **`. `reason_arg` is the parameter of type
    `enum skb_drop_reason`, 0 where there is none. `nargs` is without the `...` of a variadic function.
    """

    name: str
    btf_id: int
    skb_arg: int
    double_pointer: bool
    reason_arg: int
    nargs: int
    variadic: bool


class Tracepoint(NamedTuple):
    """A BTF tracepoint with a pointer to the struct among its arguments.

    Indexes are 0-based, as in the context of a raw_tp program. `reason_arg` is the `enum skb_drop_reason`,
    `location_arg` the first `void *`: the `location` of kfree_skb and consume_skb, where the packet was freed.
    """

    name: str
    skb_arg: int
    reason_arg: int | None
    location_arg: int | None


class Member(NamedTuple):
    """A member of a struct or union, its type without typedefs and qualifiers.

    `offset` and `size` are bytes; `bit_offset` is from the start of the outermost struct; `bit_size` is 0 but for
    bitfields, whose `offset` is that of the byte with their first bit and `size` that of the declared type. `kind` is
    INT, PTR, ENUM, …; of an array it is ARRAY, `elements` their number (of all dimensions) and `element_size` the size
    of one; of others `elements` is 1.
    """

    name: str
    offset: int
    size: int
    bit_offset: int
    bit_size: int
    kind: int
    type_id: int
    signed: bool
    elements: int
    element_size: int

    @property
    def is_int(self) -> bool:
        """A number of `size` bytes: integer, character, bool, enum or pointer, no bitfield."""
        return self.kind in (INT, ENUM, ENUM64, PTR) and not self.bit_size


class Type(NamedTuple):
    """A type without the typedefs and qualifiers around it.

    `target` is what a pointer points to, or what an array consists of (another array, if it has more dimensions);
    `elements` is an array's own number of them. `void` has id and kind 0. A struct that is only declared (kind FWD)
    is looked for by its name.
    """

    id: int
    kind: int
    name: str
    size: int
    signed: bool
    target: int
    elements: int


class Struct(NamedTuple):
    """A struct or union; members of anonymous structs and unions in it are its own members, as in C."""

    size: int
    members: tuple[Member, ...]

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)


class _Pointers(NamedTuple):
    """Ids of the types that are, whatever qualifiers and typedefs are around it, a struct, a pointer to it, a `**`."""

    plain: set[int]
    single: set[int]
    double: set[int]


# What a function prototype has: skb_arg, double_pointer, reason_arg, nargs and variadic of Function.
_Arguments = tuple[int, bool, int, int, bool]


class Btf:
    """BTF from bytes. Split BTF (of a module) continues the ids and the strings of its `base`.

    Raises BtfError for damaged data, the constructor as well as every method.
    """

    def __init__(self, data: bytes, base: Btf | None = None) -> None:
        if len(data) < _HEADER.size:
            raise BtfError("BTF is too short for its header")
        magic, version, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        if magic == int.from_bytes(_MAGIC.to_bytes(2, "big"), "little"):
            raise BtfError("BTF is of a machine with the other byte order")
        if magic != _MAGIC:
            raise BtfError(f"not BTF: it begins with 0x{magic:04x} instead of 0x{_MAGIC:04x}")
        if version != 1:
            raise BtfError(f"BTF has version {version}, of which nothing is known")
        types, strings = header + type_off, header + str_off
        if header < _HEADER.size or max(types + type_len, strings + str_len) > len(data) or type_len % 4:
            raise BtfError("BTF is cut off or damaged: its sections do not fit into it")
        self._words = memoryview(data)[types : types + type_len].cast("I")
        self._strings = bytes(memoryview(data)[strings : strings + str_len])
        if self._strings[-1:] != b"\0" and (self._strings or not base):
            raise BtfError("BTF is damaged: its strings do not end with a zero")
        if not base and self._strings[0]:
            raise BtfError("BTF is that of a module, which means nothing without that of its kernel")
        self._base = base
        self._source = ""  # where it is from, for messages: damage shows when somebody looks there
        self._first_string: int = base._end_string if base else 0
        self._end_string: int = self._first_string + str_len
        # Answers that are asked for again: of the base once for each module.
        self._ids: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        self._names: dict[str, set[int]] = {}
        self._pointers: dict[str, _Pointers] = {}
        self._prototypes: dict[tuple[str, str], dict[int, _Arguments]] = {}

    @classmethod
    def from_file(cls, path: str | Path, base: Btf | None = None) -> Btf:
        """Raw BTF, or the `.BTF` section of an ELF file. Raises PwruError if it cannot be read."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise PwruError(f"cannot read BTF from {path}: {error.strerror}") from None
        try:
            btf = cls(_elf_section(path) if data[:4] == b"\x7fELF" else data, base)
        except BtfError as error:
            raise BtfError(f"{path}: {error}") from None
        btf._source = f"{path}: "
        return btf

    # --- what is asked for ---

    @property
    def count(self) -> int:
        """One more than the highest id."""
        return self._first_id + len(self._offsets)

    def functions(self, struct_name: str = "sk_buff", reason_name: str = "skb_drop_reason") -> list[Function]:
        """Every function with a parameter `struct sk_buff *` or `**`, const, volatile, restrict or typedef included.

        In the order of their ids; of split BTF its own functions only.
        """
        prototypes = self._prototypes_with(struct_name, reason_name)
        offsets = self._of_kinds(FUNC)
        types = self._column(2, offsets)
        wanted = list(map(prototypes.__contains__, types))
        found = sorted(zip(compress(offsets, wanted), compress(types, wanted), strict=True))
        return [Function(self._name(offset), self._id(offset), *prototypes[proto]) for offset, proto in found]

    def tracepoints(self, struct_name: str = "sk_buff", reason_name: str = "skb_drop_reason") -> list[Tracepoint]:
        """Every tracepoint with such an argument, by name.

        `typedef void (*btf_trace_NAME)(void *data, ...)` has the tracepoint's arguments behind the first: commit
        e8c423fb31fa ("bpf: Add typecast to raw_tracepoints to help BTF generation"), in v5.5.
        """
        prototypes = self._prototypes_with(struct_name, reason_name)
        found: dict[str, Tracepoint] = {}
        for offset in self._of_kinds(TYPEDEF):
            start = self._words[offset] - self._first_string
            if start < 0 or not self._strings.startswith(b"btf_trace_", start):
                continue
            pointer = self._strip(self._words[offset + 2])
            if self._kind(pointer) != PTR:
                continue
            prototype = self._strip(self._record(pointer)[2])
            skb_arg, _, reason_arg, *_ = prototypes.get(prototype, (0, False, 0))
            if skb_arg < 2:
                continue
            name = self._name(offset).removeprefix("btf_trace_")
            reason = reason_arg - 2 if reason_arg > 1 else None
            found.setdefault(name, Tracepoint(name, skb_arg - 2, reason, self._location_arg(prototype)))
        return [found[name] for name in sorted(found)]

    def no_trampoline(self, btf_id: int) -> str | None:
        """Why no BPF trampoline (fentry) can be made for a function with such a prototype; None if one can.

        As btf_distill_func_proto() in kernel/bpf/btf.c decides.
        """
        prototype = self._record(self._record(btf_id)[2])
        nargs = prototype[1] & 0xFFFF
        if nargs > _TRAMPOLINE_ARGS:
            return f"it has more than {_TRAMPOLINE_ARGS} arguments"
        if self._struct_size(prototype[2]):
            return "it returns a struct"
        arguments = [prototype[4 + 2 * index] for index in range(nargs)]
        if arguments and not arguments[-1]:
            return "it is variadic"
        if any(self._struct_size(argument) > _TRAMPOLINE_STRUCT for argument in arguments):
            return "it takes a large struct by value"
        return None

    def find(self, name: str, *kinds: int) -> int | None:
        """The lowest id of a type with this name and one of these kinds."""
        ids = self._named(name, *kinds)
        return min(ids) if ids else None

    def enum(self, name: str) -> dict[int, str] | None:
        """Values and names of an enum; of several names for one value the first."""
        for type_id in self._named(name, ENUM, ENUM64):
            values: dict[int, str] = {}
            for start, value in self._enumerators(self._record(type_id)):
                values.setdefault(value, self._string(start))
            if values:
                return values
        return None

    def enumerator(self, name: str) -> set[int]:
        """The values that this name has in whatever enums; several enums may have it, each with its own."""
        found = self._base.enumerator(name) if self._base else set()
        wanted = self._string_offsets(name)
        for offset in self._of_kinds(ENUM, ENUM64) if wanted else ():
            found |= {value for start, value in self._enumerators(self._words[offset:]) if start in wanted}
        return found

    def enumerators(self) -> set[str]:
        """The names of all values of all enums."""
        found = self._base.enumerators() if self._base else set()
        for offset in self._of_kinds(ENUM, ENUM64):
            found |= {self._string(start) for start, _ in self._enumerators(self._words[offset:])}
        return found

    def struct(self, name: str) -> Struct | None:
        """The layout of a struct or union."""
        ids = sorted(self._named(name, STRUCT, UNION))
        return self.layout(ids[0]) if ids else None

    def layout(self, type_id: int) -> Struct:
        """The layout of the struct or union that has this id."""
        members: list[Member] = []
        self._members(type_id, 0, members, _MAX_DEPTH)
        return Struct(self._record(type_id)[2], tuple(members))

    def type(self, type_id: int) -> Type:
        """What is behind the typedefs and qualifiers."""
        type_id = self._strip(type_id)
        if not type_id:
            return Type(0, 0, "void", 0, False, 0, 0)
        record = self._record(type_id)
        kind, name = self._kind(type_id), self._string(record[0])
        if kind == FWD and (defined := self._named(name, UNION if record[1] >> 31 else STRUCT)):
            return self.type(min(defined))
        size, elements = self._size(type_id)
        target = record[2] if kind == PTR else record[3] if kind == ARRAY else 0
        own_elements = record[5] if kind == ARRAY else 0
        return Type(type_id, kind, name, size * elements, self._signed(type_id), target, own_elements)

    def parts(self, type_id: int) -> list[tuple[str, int, int, int]]:
        """The members of a struct or union as they are written: name, type, first bit, how many if it is a bitfield."""
        record = self._record(type_id)
        entries = [record[entry : entry + 3] for entry in range(3, 3 + 3 * (record[1] & 0xFFFF), 3)]
        if record[1] >> 31:
            return [(self._string(name), of, at & 0xFFFFFF, at >> 24) for name, of, at in entries]
        return [(self._string(name), of, at, 0) for name, of, at in entries]

    def values(self, type_id: int) -> dict[int, str]:
        """Of the enum that has this id."""
        return {value: self._string(start) for start, value in self._enumerators(self._record(type_id))}

    def spelled(self, type_id: int) -> str:
        """The name of a type as the kernel's btf_show_name() has it: `struct sk_buff *`, `__u8[]`, `sk_buff_data_t`."""
        suffix, prefix = "", ""
        for _ in range(_MAX_DEPTH):
            kind, record = self._kind(type_id), self._record(type_id) if type_id else None
            if record is None:
                return f"void{suffix}"
            name = self._string(record[0])
            if kind == PTR:
                suffix = f"*{suffix}" if suffix[:1] == "*" else f" *{suffix}"
                type_id = record[2]
            elif kind == ARRAY:
                suffix = suffix if suffix.endswith("[]") else f"{suffix}[]"
                type_id = record[3]
            elif kind in _MODIFIERS and kind != TYPEDEF:
                type_id = record[2]
            else:
                if kind in (STRUCT, UNION, ENUM, ENUM64, FWD):
                    prefix = "union" if kind == UNION else "enum" if kind in (ENUM, ENUM64) else "struct"
                return " ".join(filter(None, (prefix, name))) + suffix
        raise self._damaged("BTF is damaged: a type has no end")

    # --- records ---

    @cached_property
    def _first_id(self) -> int:
        return self._base.count if self._base else 1

    @cached_property
    def _offsets(self) -> list[int]:
        """Where the records are, in words, in the order of their ids."""
        return self._index[0]

    @cached_property
    def _by_info(self) -> dict[int, list[int]]:
        """The same offsets by the records' info words."""
        return self._index[1]

    @cached_property
    def _index(self) -> tuple[list[int], dict[int, list[int]]]:
        offsets: list[int] = []
        by_info: dict[int, list[int]] = {}
        strides: dict[int, tuple[int, Callable[[int], None]]] = {}
        infos = self._words[1:]
        add = offsets.append
        offset = 0
        try:
            while True:
                try:
                    while True:  # most of the time of a scan is spent in these four lines
                        stride, add_by_info = strides[infos[offset]]
                        add(offset)
                        add_by_info(offset)
                        offset += stride
                except KeyError:
                    info = infos[offset]
                    by_info[info] = []
                    try:
                        strides[info] = _stride(info), by_info[info].append
                    except BtfError as error:
                        raise self._damaged(str(error)) from None
        except IndexError:
            if offset != len(self._words):
                raise self._damaged("BTF is damaged: its last type is cut off") from None
        return offsets, by_info

    def _of_kinds(self, *kinds: int) -> list[int]:
        found: list[int] = []
        for info, offsets in self._by_info.items():
            if info >> 24 & 0x1F in kinds:
                found += offsets
        return found

    def _column(self, word: int, offsets: list[int]) -> tuple[int, ...]:
        """That word of each of the records."""
        if len(offsets) < 2:
            return tuple(self._words[offset + word] for offset in offsets)
        found: tuple[int, ...] = itemgetter(*offsets)(self._words[word:])
        return found

    def _id(self, offset: int) -> int:
        return self._first_id + bisect_left(self._offsets, offset)

    def _record(self, type_id: int) -> memoryview[int]:
        """The words from this type's record on."""
        if type_id < self._first_id:
            if self._base is None:
                raise self._damaged(f"BTF is damaged: type {type_id} is not a record")
            return self._base._record(type_id)
        try:
            return self._words[self._offsets[type_id - self._first_id] :]
        except IndexError:
            raise self._damaged(f"BTF is damaged: there is no type {type_id}") from None

    def _kind(self, type_id: int) -> int:
        return self._record(type_id)[1] >> 24 & 0x1F if type_id else 0

    def _strip(self, type_id: int) -> int:
        """The type behind typedefs and qualifiers; 0 is void."""
        for _ in range(_MAX_DEPTH):
            if self._kind(type_id) not in _MODIFIERS:
                return type_id
            type_id = self._record(type_id)[2]
        raise self._damaged("BTF is damaged: a chain of typedefs has no end")

    def _string(self, offset: int) -> str:
        start = offset - self._first_string
        if start < 0 and self._base is not None:
            return self._base._string(offset)
        end = self._strings.find(b"\0", start)
        if end < 0:
            raise self._damaged("BTF is damaged: a name is beyond its strings")
        return self._strings[start:end].decode("utf-8", "backslashreplace")

    def _enumerators(self, record: memoryview[int]) -> Iterator[tuple[int, int]]:
        """Where in the strings the names of an enum's values are, and the values."""
        info = record[1]
        kind, signed, vlen = info >> 24 & 0x1F, info >> 31, info & 0xFFFF
        width = _WORDS[kind][1]
        for entry in range(3, 3 + width * vlen, width):
            value = record[entry + 1] | (record[entry + 2] << 32 if kind == ENUM64 else 0)
            if signed and value >> (32 * width - 33):
                value -= 1 << (32 * width - 32)
            yield record[entry], value

    def _name(self, offset: int) -> str:
        return self._string(self._words[offset])

    # --- lookups on whole lists ---

    def _named(self, name: str, *kinds: int) -> list[int]:
        """Ids of all types with this name and one of these kinds, those of the base first."""
        key = name, kinds
        if key not in self._ids:
            found = list(self._base._named(name, *kinds)) if self._base else []
            strings = self._string_offsets(name)
            if strings:
                offsets = self._of_kinds(*kinds)
                named = compress(offsets, map(strings.__contains__, self._column(0, offsets)))
                found += [self._id(offset) for offset in named]
            self._ids[key] = found
        return self._ids[key]

    def _string_offsets(self, name: str) -> set[int]:
        """Where this string is, in the base's strings or here. Not inside other strings: nobody writes BTF that way."""
        if name not in self._names:
            found = set(self._base._string_offsets(name)) if self._base else set()
            wanted = name.encode() + b"\0"
            if self._strings.startswith(wanted):
                found.add(self._first_string)
            at = self._strings.find(b"\0" + wanted)
            while at >= 0:
                found.add(self._first_string + at + 1)
                at = self._strings.find(b"\0" + wanted, at + 1)
            self._names[name] = found
        return self._names[name]

    def _pointers_to(self, struct_name: str) -> _Pointers:
        """The struct's ids and what points to it: the base's and own ones."""
        if struct_name not in self._pointers:
            base = self._base._pointers_to(struct_name) if self._base else _Pointers(set(), set(), set())
            modifiers = self._of_kinds(*_MODIFIERS)
            modified = self._column(2, modifiers)
            pointers = self._of_kinds(PTR)
            pointees = self._column(2, pointers)

            def ids(offsets: list[int], targets: tuple[int, ...], wanted: set[int]) -> set[int]:
                return set(map(self._id, compress(offsets, map(wanted.__contains__, targets))))

            def closure(found: set[int]) -> set[int]:
                while not (more := ids(modifiers, modified, found)) <= found:
                    found |= more
                return found

            # A forward declaration stands for the struct in a unit that does not know more of it.
            plain = closure(base.plain | set(self._named(struct_name, STRUCT, FWD)))
            single = closure(base.single | ids(pointers, pointees, plain))
            double = closure(base.double | ids(pointers, pointees, single))
            self._pointers[struct_name] = _Pointers(plain, single, double)
        return self._pointers[struct_name]

    def _prototypes_with(self, struct_name: str, reason_name: str) -> dict[int, _Arguments]:
        """Prototypes by id, the base's and own ones, that have a pointer to the struct among their parameters."""
        key = struct_name, reason_name
        if key in self._prototypes:
            return self._prototypes[key]
        found = dict(self._base._prototypes_with(*key)) if self._base else {}
        _, single, double = self._pointers_to(struct_name)
        wanted = single | double
        reasons = set(self._named(reason_name, ENUM, ENUM64))
        words = self._words
        for info, offsets in self._by_info.items():
            if info >> 24 & 0x1F != FUNC_PROTO:
                continue
            nargs = info & 0xFFFF
            # From the last parameter to the first, so that the first one is what remains.
            skb_args: dict[int, int] = {}
            reason_args: dict[int, int] = {}
            for position in range(nargs, 0, -1):
                types = self._column(2 + 2 * position, offsets)  # a parameter is a name and a type
                skb_args.update(zip(compress(offsets, map(wanted.__contains__, types)), repeat(position)))
                if not reasons.isdisjoint(types):
                    reason_args.update(zip(compress(offsets, map(reasons.__contains__, types)), repeat(position)))
            for offset, position in skb_args.items():
                variadic = not words[offset + 2 + 2 * nargs]
                found[self._id(offset)] = (
                    position,
                    words[offset + 2 + 2 * position] in double,
                    reason_args.get(offset, 0),
                    nargs - variadic,
                    variadic,
                )
        self._prototypes[key] = found
        return found

    def _location_arg(self, prototype: int) -> int | None:
        """The first `void *` of a tracepoint's prototype behind `void *data`, counted from there; it has no names."""
        record = self._record(prototype)
        for position in range(1, record[1] & 0xFFFF):
            type_id = self._strip(record[4 + 2 * position])
            if self._kind(type_id) == PTR and not self._strip(self._record(type_id)[2]):
                return position - 1
        return None

    # --- layouts ---

    def _members(self, struct_id: int, start: int, members: list[Member], depth: int) -> None:
        """Appends the members of a struct that begins at bit `start`."""
        record = self._record(struct_id)
        bitfields = record[1] >> 31
        for entry in range(3, 3 + 3 * (record[1] & 0xFFFF), 3):
            name, type_id, at = record[entry : entry + 3]
            bit_size = 0
            if bitfields:
                at, bit_size = at & 0xFFFFFF, at >> 24
            bit_offset = start + at
            type_id = self._strip(type_id)
            kind = self._kind(type_id)
            if not depth or len(members) > _MAX_MEMBERS:
                raise self._damaged("BTF is damaged: a struct contains itself")
            if kind in (STRUCT, UNION) and not self._string(name):
                self._members(type_id, bit_offset, members, depth - 1)
                continue
            size, elements = self._size(type_id)
            if kind == INT:
                # Old BTF has bitfields as integers of fewer bits: encoding, offset and bits in one word.
                encoding = self._record(type_id)[3]
                if not bit_size and encoding & 0xFF not in (0, 8 * size):
                    bit_size = encoding & 0xFF
                    bit_offset += encoding >> 16 & 0xFF
            place = bit_offset // 8, size * elements, bit_offset, bit_size
            members.append(Member(self._string(name), *place, kind, type_id, self._signed(type_id), elements, size))

    def _signed(self, type_id: int) -> bool:
        """Of a type without qualifiers around it."""
        kind = self._kind(type_id)
        if kind == INT:
            return bool(self._record(type_id)[3] >> 24 & _INT_SIGNED)
        return kind in (ENUM, ENUM64) and bool(self._record(type_id)[1] >> 31)

    def _struct_size(self, type_id: int) -> int:
        """Bytes of a struct or union; 0 for any other type."""
        if self._kind(type_id) not in (PTR, INT):
            type_id = self._strip(type_id)
        return self._record(type_id)[2] if self._kind(type_id) in (STRUCT, UNION) else 0

    def _size(self, type_id: int) -> tuple[int, int]:
        """Bytes of one element, and how many elements, of a type without qualifiers around it."""
        count = 1
        for _ in range(_MAX_DEPTH):
            kind = self._kind(type_id)
            if kind == ARRAY:
                record = self._record(type_id)
                count *= record[5]
                type_id = self._strip(record[3])
            elif kind == PTR:
                return self._pointer_size, count
            elif kind in (INT, STRUCT, UNION, ENUM, ENUM64, FLOAT):
                return self._record(type_id)[2], count
            else:
                return 0, count  # a type that is only declared
        raise self._damaged("BTF is damaged: an array contains itself")

    @cached_property
    def _pointer_size(self) -> int:
        """That of `long`, which is how libbpf tells it; 8 where there is none, as for BPF programs."""
        if self._base is not None:
            return self._base._pointer_size
        for name in ("long unsigned int", "unsigned long", "long int", "long"):
            type_id = self.find(name, INT)
            if type_id is not None and self._record(type_id)[2] in (4, 8):
                return self._record(type_id)[2]
        return 8

    def _damaged(self, text: str) -> BtfError:
        return BtfError(self._source + text)


def _stride(info: int) -> int:
    """How many words a record with this info word takes."""
    kind = info >> 24 & 0x1F
    if kind not in _WORDS:
        raise BtfError(f"BTF has a type of kind {kind}, of which nothing is known, or is damaged")
    words, words_each = _WORDS[kind]
    return words + words_each * (info & 0xFFFF)


def vmlinux_btf(path: str | None = None) -> Btf:
    """The BTF of this kernel, or of the file given with --kernel-btf."""
    if path is None and not Path(VMLINUX).exists():
        raise PwruError(
            f"this kernel has no BTF ({VMLINUX} is missing: CONFIG_DEBUG_INFO_BTF); pass --kernel-btf a file with the"
            " BTF of exactly this kernel: raw BTF, or its vmlinux with a .BTF section"
        )
    return Btf.from_file(path or VMLINUX)


def _elf_section(path: str | Path) -> bytes:
    from elftools.elf.elffile import ELFFile

    with Path(path).open("rb") as file:
        try:
            section = ELFFile(file).get_section_by_name(".BTF")
            data: bytes | None = section.data() if section else None
        except Exception as error:  # pyelftools lets anything through on damaged files
            raise BtfError(f"damaged ELF file ({error})") from None
    if data is None:
        raise BtfError("the ELF file has no .BTF section")
    return data
