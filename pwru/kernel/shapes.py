"""The shape of a kernel struct, by its BTF: all that it takes to print one, as plain data that JSON can hold.

A shape is a list that begins with what it is:

["struct", members]: a member is what is printed before its value, the offset of its first byte, its size in bytes, how
    many bits to shift and how many there are (both 0 except for a bitfield), and its shape.
["array", spelled, size, shape]: of elements with this name of their type and size in bytes.
["int", signed, {number: name}], ["ptr"], ["bytes"], and ["none"] for what cannot be shown.
"""

from typing import Any

from pwru.kernel.btf import ARRAY, ENUM, ENUM64, INT, PTR, STRUCT, UNION, Btf, BtfError

Shape = list[Any]
MAX_DEPTH = 32


def shape_of(btf: Btf, name: str) -> tuple[str, Shape]:
    """Return how the struct with this name is spelled, and its shape. Raises PwruError if the BTF is damaged."""
    type_id = btf.find(name, STRUCT)
    assert type_id is not None
    return btf.spelled(type_id), _value(btf, type_id, MAX_DEPTH)


def _value(btf: Btf, type_id: int, depth: int) -> Shape:
    type_ = btf.type(type_id)
    if not depth:
        raise BtfError("BTF is damaged: a struct contains itself")
    if type_.kind in (STRUCT, UNION):
        return ["struct", [_member(btf, member, depth - 1) for member in btf.parts(type_.id)]]
    if type_.kind == ARRAY:
        return _array(btf, type_.target, type_.elements, depth)
    if type_.kind == PTR:
        return ["ptr"]
    if type_.kind in (ENUM, ENUM64):
        return ["int", type_.signed, {str(number): name for number, name in btf.values(type_.id).items()}]
    return ["int", type_.signed, {}] if type_.kind == INT else ["none"]  # a type that is only declared, or a float


def _member(btf: Btf, part: tuple[str, int, int, int], depth: int) -> list[Any]:
    name, type_id, bit_offset, bit_size = part
    before = (f".{name} = " if name else "") + f"({btf.spelled(type_id)})"
    at, shift = divmod(bit_offset, 8)
    if bit_size:
        return [before, at, (bit_offset + bit_size + 7) // 8 - at, shift, bit_size, ["int", False, {}]]
    return [before, at, btf.type(type_id).size, 0, 0, _value(btf, type_id, depth)]


def _array(btf: Btf, type_id: int, count: int, depth: int) -> Shape:
    element = btf.type(type_id)
    if not count or not element.size:
        return ["none"]
    if element.kind == INT and element.size == 1:
        return ["bytes"]
    return ["array", btf.spelled(type_id), element.size, _value(btf, type_id, depth - 1)]
