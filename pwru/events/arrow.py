"""Events as record batches of Arrow, made column by column: what repeats is decoded once per distinct value.

Nothing here looks at single events, nor at the numbers in single values: Arrow cuts them out of the bytes.
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pwru.errors import PwruError, near
from pwru.events.fields import Fields, fields_of
from pwru.events.selected import Selected
from pwru.record.bounds import damaged
from pwru.record.columns import NONE, Column
from pwru.record.follow import OTHER, Numbered
from pwru.record.memo import Memo
from pwru.record.names import Function, Names
from pwru.record.parts import PARTS, text_of
from pwru.record.schema import Schema

if TYPE_CHECKING:
    from pwru.record.layout import Layout

_KNOWN = 1 << 14  # texts of one kind
_ADDRESSES = {4: (socket.AF_INET, 4), 6: (socket.AF_INET6, 16)}
Texts = Memo[bytes, Any]
Arrays = dict[str, Any]  # by the name of the field: one value for each distinct value of a column


def number_array(values: Iterable[int]) -> Any:
    """Return an array of int64. pa.array() and pa.scalar() import pandas, or look for it each time."""
    numbers = array("q", values)
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


def text_array(texts: Sequence[str]) -> Any:
    return _variable([text.encode() for text in texts], pa.string())


def _variable(data: Sequence[bytes], kind: Any) -> Any:
    ends = array("i", accumulate(map(len, data), initial=0))
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(data))]
    return pa.Array.from_buffers(kind, len(data), buffers)


@lru_cache(maxsize=256)
def scalar(value: int | str | None, kind: Any) -> Any:
    if value is None:
        return pa.nulls(1, kind)[0]
    return (text_array([value]) if isinstance(value, str) else number_array([value]).cast(kind))[0]


def _flags(flags: Sequence[bool]) -> Any:
    return pa.Array.from_buffers(pa.uint8(), len(flags), [None, pa.py_buffer(bytes(flags))]).cast(pa.bool_())


class Raw:
    """Distinct values of a column, `size` bytes each."""

    def __init__(self, values: Sequence[bytes], size: int) -> None:
        data = b"".join(values)
        if len(data) != len(values) * size:
            raise ValueError
        self.array = pa.Array.from_buffers(pa.binary(size), len(values), [None, pa.py_buffer(data)])

    def __len__(self) -> int:
        return len(self.array)

    def take(self, positions: Any) -> Raw:
        """Return only the values at these positions."""
        other = Raw((), 0)
        other.array = self.array.take(positions)
        return other

    def bytes(self, at: int, size: int) -> Any:
        return pc.binary_slice(self.array, at, at + size)

    def numbers(self, at: int, size: int, *, signed: bool = False) -> Any:
        """Return the numbers of so many bytes that begin there."""
        kind = {1: pa.uint8(), 2: pa.uint16(), 4: pa.uint32(), 8: pa.uint64()}[size]
        if signed:
            kind = {1: pa.int8(), 2: pa.int16(), 4: pa.int32(), 8: pa.int64()}[size]
        cut = self.bytes(at, size)
        return pa.Array.from_buffers(kind, len(cut), [None, cut.buffers()[1]], offset=cut.offset)

    def texts(self, at: int, size: int, texts: Texts) -> Any:
        """Return what these bytes are as text."""
        distinct = self.bytes(at, size).dictionary_encode()
        return text_array([texts[raw] for raw in distinct.dictionary.to_pylist()]).take(distinct.indices)


class Struct:
    """A part in distinct values: its members by name."""

    def __init__(self, raw: Raw, layout: Layout, at: int) -> None:
        self._raw, self._at = raw, at
        self._members = {member.name: member for member in layout.members}

    def numbers(self, member: str) -> Any:
        m = self._members[member]
        return self._raw.numbers(self._at + m.offset, m.size, signed=m.signed)

    def texts(self, member: str, texts: Texts) -> Any:
        m = self._members[member]
        return self._raw.texts(self._at + m.offset, m.size, texts)


class Batches:
    """Makes a record batch of the events of a chunk."""

    def __init__(self, schema: Schema, names: Callable[[], Names], columns: Sequence[str] | None = None) -> None:
        """`columns`: the names of those that are wanted; None: all that the events have. Raises PwruError."""
        self._schema, self._names = schema, names
        fields = fields_of(schema)
        for name in columns or ():
            if name not in fields:
                raise PwruError(f"`columns`: the events have no {name}; {near(name, fields) or _listed(fields)}")
        self._fields: Fields = fields if columns is None else {name: fields[name] for name in columns}
        self.schema = pa.schema([(name, kind) for name, (kind, _) in self._fields.items()])
        self._wanted = {of for _, of in self._fields.values()}
        self._functions = Memo(self._function, _KNOWN)
        self._generation = -1
        self._comm, self._ifname = Memo(text_of, _KNOWN), Memo(text_of, _KNOWN)
        self._address = {version: Memo(_address(version), _KNOWN) for version in _ADDRESSES}
        self._makers = {
            "skb": self._skb,
            "task": self._task,
            "hit": self._hit,
            "packet": self._packet,
            "details": self._details,
        }
        self._slots = {slot.part: slot for slot in schema.slots}

    def reader(self, chunks: Iterator[Selected]) -> Any:
        """Return a reader of the events of these chunks."""
        return pa.RecordBatchReader.from_batches(
            self.schema, (batch for batch in map(self.batch, chunks) if batch.num_rows)
        )

    def batch(self, selected: Selected) -> Any:
        """Return the events of a chunk. Raises Damaged for bytes that no program of ours wrote."""
        with damaged("a chunk of events"):
            return self._batch(selected)

    def _batch(self, selected: Selected) -> Any:
        names = self._names()
        if names.generation != self._generation:
            self._generation = names.generation
            self._functions.clear()
        keep = None if selected.keep is None else _flags(selected.keep)
        count = selected.events
        made: Arrays = {}
        for of in self._wanted if count else ():
            column = selected.columns.columns.get(of, NONE)
            if of == "time":
                made |= _times(column, selected.columns.offset, keep)
            elif column.values:
                made |= self._column(of, column, selected.numbered, keep)
        arrays = [made[name] if name in made else pa.nulls(count, kind) for name, (kind, _) in self._fields.items()]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _column(self, of: str, column: Column, numbered: Sequence[Numbered], keep: Any) -> Arrays:
        """Return the fields that are made of a column of Record, one value for each event."""
        indices = _indices(column)
        if keep is not None:
            # Without the values that no event has any longer: they would be left in dictionaries.
            used = indices.filter(keep).dictionary_encode()
            indices, positions = used.indices, used.dictionary
        else:
            positions = None
        if of == "skb":
            values: Any = _unsigned(column.values)
        else:
            values = Raw(column.values, self._schema.sizes[_SIZES[of]])
        values = values if positions is None else values.take(positions)
        if of == "follow":
            numbered = numbered if positions is None else [numbered[index] for index in positions.to_pylist()]
            arrays = self._follow(values, numbered)
        else:
            arrays = self._makers[of](values)
        return {
            name: _spread(array, self._fields[name][0], indices)
            for name, array in arrays.items()
            if name in self._fields
        }

    def _skb(self, values: Any) -> Arrays:
        return {"skb": values}

    def _task(self, raw: Raw) -> Arrays:
        task = Struct(raw, self._schema.structs.layout("task"), 0)
        return {
            "cpu": task.numbers("cpu"),
            "pid": task.numbers("pid"),
            "comm": task.texts("comm", self._comm),
        }

    def _function(self, raw: bytes) -> Function:
        return self._names().function(self._schema.hit(raw))

    def _hit(self, raw: Raw) -> Arrays:
        functions: list[Function] = [self._functions[hit] for hit in raw.array.to_pylist()]
        texts = {
            "function": [function.plain if function.drops else function.name for function in functions],
            "caller": [function.caller for function in functions],
            "reason": [function.reason for function in functions],
            "verdict": [function.verdict for function in functions],
        }
        arrays: Arrays = {name: _null_if(text_array(each), "") for name, each in texts.items()}
        arrays["dropped"] = _not(number_array(function.drops for function in functions), 0)
        return arrays

    def _packet(self, raw: Raw) -> Arrays:
        arrays: Arrays = {}
        if "meta" in self._schema.parts:
            meta = self._struct(raw, "meta")
            numbers = ("netns", "mark", "ifindex", "mtu", "len", "protocol")
            arrays |= {name: meta.numbers(name) for name in numbers}
            arrays["ifname"] = _null_if(meta.texts("ifname", self._ifname), "")
            netns = arrays["netns"].dictionary_encode()
            known = self._names().netns()
            named = text_array([known.get(inode, "") for inode in netns.dictionary.to_pylist()])
            arrays["netns_name"] = _null_if(named, "").take(netns.indices)
        for part, prefix in (("tuple", ""), ("tunnel", "tunnel_")):
            if part in self._schema.parts:
                found = self._tuple(self._struct(raw, part))
                arrays |= {prefix + name: array for name, array in found.items()}
        if "cb" in self._schema.parts:
            words = self._slots["cb"].at, self._schema.structs.layout("cb").size_of("words")
            cut = raw.bytes(*words)
            flat = pa.Array.from_buffers(
                pa.uint32(), len(cut) * words[1] // 4, [None, cut.buffers()[1]], offset=cut.offset * words[1] // 4
            )
            arrays["cb"] = pa.FixedSizeListArray.from_arrays(flat, words[1] // 4)
        return arrays

    def _tuple(self, flow: Struct) -> Arrays:
        """Return the fields of a packet; all are null without an IP header."""
        told = flow.numbers("ip_version")
        version = pc.abs(told)
        there = _not(told, 0)
        if not pc.any(there).as_py():
            return {}
        ports = pc.and_(there, _not(flow.numbers("has_ports"), 0))
        arrays = {name: self._addresses(flow, name, version) for name in ("saddr", "daddr")}
        arrays |= {name: _only(ports, flow.numbers(name)) for name in ("sport", "dport")}
        arrays["ip_version"] = _only(there, version.cast(pa.uint8()))
        arrays["l4_protocol"] = _only(there, flow.numbers("l4_protocol"))
        arrays["tcp_flags"] = _only(there, flow.numbers("tcp_flags"))
        arrays["from_sock"] = _only(there, pc.less(told, scalar(0, told.type)))
        return arrays

    def _addresses(self, flow: Struct, member: str, version: Any) -> Any:
        made = pa.nulls(len(version), pa.string())
        for number, texts in self._address.items():
            mine = pc.equal(version, scalar(number, version.type))
            if pc.any(mine).as_py():
                made = pc.if_else(mine, flow.texts(member, texts), made)
        return made

    def _follow(self, raw: Raw, numbered: Sequence[Numbered]) -> Arrays:
        follow = self._struct(raw, "follow")
        packet, instance, names, parent_packet, parent_instance = zip(*numbered, strict=True)
        arrays: Arrays = {
            "packet": _null_if(number_array(packet), 0),
            "instance": _null_if(number_array(instance), OTHER),
            "packet_id": _null_if(text_array(names), ""),
            "parent_packet": _null_if(number_array(parent_packet), 0),
            "parent_instance": _null_if(number_array(parent_instance), OTHER),
        }
        for enum in PARTS["follow"].enums:
            words = self._schema.structs.names(enum)
            constants = follow.numbers(enum).dictionary_encode()
            told = [words.get(constant) or str(constant) for constant in constants.dictionary.to_pylist()]
            arrays[enum] = text_array(told).take(constants.indices)
        arrays["relation"] = _only(_not(follow.numbers("relation"), 0), arrays["relation"])
        for name in ("transmission", "segment"):
            arrays[name] = _null_if(follow.numbers(name), 0)
        arrays["ended"] = _not(follow.numbers("ended"), 0)
        return arrays

    def _details(self, raw: Raw) -> Arrays:
        arrays: Arrays = {}
        if "payload" in self._schema.parts:
            arrays |= self._payload(raw)
        if self._schema.parts & {"values", "stack", "skb", "shared_info", "bpfmap"}:
            from pwru.events.details import Details

            arrays |= Details(self._schema, self._names()).arrays(raw.array.to_pylist())
        return arrays

    def _payload(self, raw: Raw) -> Arrays:
        layout, slot = self._schema.structs.layout("payload"), self._slots["payload"]
        payload = self._struct(raw, "payload")
        sizes = payload.numbers("size")
        begin = slot.at + layout.size
        data = raw.bytes(begin, slot.size)
        if pc.any(pc.less(sizes, scalar(slot.size, sizes.type))).as_py():
            raws, room = data.buffers()[1].to_pybytes()[data.offset * slot.size :], slot.size
            begins = enumerate(sizes.to_pylist())
            each = [raws[index * room : index * room + min(size, room)] for index, size in begins]
            data = _variable(each, pa.binary())
        return {
            "payload": data.cast(pa.binary()),
            "payload_len": payload.numbers("length"),
            "payload_has_mac": _not(payload.numbers("has_mac"), 0),
        }

    def _struct(self, raw: Raw, part: str) -> Struct:
        return Struct(raw, self._schema.structs.layout(PARTS[part].struct), self._slots[part].at)


_SIZES = {"task": 1, "hit": 2, "packet": 3, "follow": 4, "details": 6}  # the places in Schema.sizes


def _indices(column: Column) -> Any:
    """Return which of its values each event has."""
    if not column.indices:  # each has its own
        return number_array(range(len(column.values)))
    kind = {1: pa.uint8(), 2: pa.uint16(), 4: pa.uint32()}[column.indices.itemsize]  # type: ignore[attr-defined]
    return pa.Array.from_buffers(kind, len(column.indices), [None, pa.py_buffer(column.indices)])


def _spread(values: Any, kind: Any, indices: Any) -> Any:
    """Return the value of each event; texts as indices of a dictionary."""
    if values.null_count == len(values):  # of most runs, this is half of the fields
        return pa.nulls(len(indices), kind)
    if pa.types.is_dictionary(kind):
        encoded = values.dictionary_encode()
        return pa.DictionaryArray.from_arrays(_take(encoded.indices, indices), encoded.dictionary, safe=False)
    return _take(values if values.type == kind else values.cast(kind), indices)


def _take(values: Any, indices: Any) -> Any:
    """Return the values at indices, each of which has one: columns.decode() has checked that."""
    return pc.take(values, indices, boundscheck=False)


def _unsigned(values: Sequence[int]) -> Any:
    numbers = array("Q", values)
    return pa.Array.from_buffers(pa.uint64(), len(numbers), [None, pa.py_buffer(numbers)])


def _times(column: Column, offset: int, keep: Any) -> Arrays:
    times = number_array(column.values)
    times = times if keep is None else times.filter(keep)
    return {
        "time_ns": times,
        "time": pc.add_checked(times, scalar(offset, pa.int64())).cast(pa.timestamp("ns", "UTC")),
    }


def _not(values: Any, value: int | str) -> Any:
    """Return where the values differ from this one."""
    return pc.not_equal(values, scalar(value, values.type))


def _only(where: Any, values: Any) -> Any:
    return pc.if_else(where, values, scalar(None, values.type))


def _null_if(values: Any, nothing: int | str) -> Any:
    return _only(_not(values, nothing), values)


def _address(version: int) -> Callable[[bytes], str]:
    family, size = _ADDRESSES[version]
    return lambda raw: socket.inet_ntop(family, raw[:size])


def _listed(fields: Iterable[str]) -> str:
    return f"they have {', '.join(fields)}"
