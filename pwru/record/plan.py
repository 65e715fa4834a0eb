"""The records of a live run: laid out from the object's BTF and the parts that the run asks for."""

from collections.abc import Mapping, Sequence

from pwru.record.layout import Mismatch, Wire
from pwru.record.parts import PARTS, Field, Section
from pwru.record.schema import WORD, Schema, Slot


class Plan:
    """Where each part is in the records of a run, which its programs are told by config()."""

    def __init__(
        self, wire: Wire, sizes: Mapping[str, int], *, tcp_flags: bool = False, fields: Sequence[Field] = ()
    ) -> None:
        """`sizes`: the parts to have, each with its size in bytes, which counts for a part without a size of its own.

        Raises Mismatch if the object is of another version of pwru.
        """
        numbers = {name.removeprefix("PART_").lower(): number for name, number in wire.enum("part").items()}
        count = numbers.pop("nr_parts", -1)
        if numbers.keys() != PARTS.keys() or count != len(PARTS):
            raise Mismatch
        at, asked = [0] * count, [0] * count
        end = wire.layout("event").size
        starts = {Section.HIT: end - wire.layout("site").size}
        slots = []
        for part in (PARTS[name] for name in sorted(sizes, key=numbers.__getitem__)):
            number, size = numbers[part.name], sizes[part.name] or part.size
            slots.append(Slot(part.name, part.section, end - starts.setdefault(part.section, end), size))
            at[number], asked[number] = end, size
            room = (wire.layout(part.struct).size if part.struct else 0) + size
            end += room + -room % WORD
        self.schema = Schema(wire, slots, tcp_flags=tcp_flags, fields=fields)
        assert self.schema.size == end
        self._wire = wire
        self._records: dict[str, int | Sequence[int]] = {
            "record_size": end,
            "at": at,
            "size": asked,
            "tcp_flags": tcp_flags,
        }

    def config(self, **values: int | bytes | Sequence[int]) -> bytes:
        """Return the bytes of struct config: `values` by the names of its members, and the layout of the records."""
        return self._wire.layout("config").pack({**values, **self._records})
