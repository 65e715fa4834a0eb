"""Functions and tracepoints that carry a packet, by the BTF of their arguments."""

from functools import lru_cache
from itertools import compress, repeat
from typing import NamedTuple

from pwru.kernel.btf.records import ENUM, ENUM64, FUNC, FUNC_PROTO, FWD, MODIFIERS, PTR, STRUCT, TYPEDEF, UNION, vlen_of
from pwru.kernel.btf.types import Btf

# MAX_BPF_FUNC_ARGS, and the bytes that two registers hold.
_TRAMPOLINE_ARGS = 12
_TRAMPOLINE_STRUCT = 16
# BTFs whose answers are cached: the kernel's, which each of its modules asks for, and the module's.
_CACHED = 4


class Function(NamedTuple):
    """A function with a pointer to the struct among its parameters; the first such parameter counts.

    Positions are 1-based. `double_pointer`: the parameter is `struct sk_buff **`. `reason_arg` is the parameter of type
    `enum skb_drop_reason`, or 0; `sock_arg` the first one that is a `struct sock *`, or 0.
    """

    name: str
    btf_id: int
    skb_arg: int
    double_pointer: bool
    reason_arg: int
    sock_arg: int = 0


class Tracepoint(NamedTuple):
    """A BTF tracepoint with a pointer to the struct among its arguments.

    Indexes are 0-based, as in the context of a raw_tp program. `reason_arg` is the first enum whose name ends in
    `_reason`, and `reason_enum` that name. `location_arg` is the first `void *`: the `location` of kfree_skb and
    consume_skb, where the packet was freed. `sock_arg` is the first `struct sock *`: kfree_skb has it since v6.11.
    """

    name: str
    skb_arg: int
    reason_arg: int | None
    location_arg: int | None
    sock_arg: int | None = None
    reason_enum: str = ""

    @property
    def drops(self) -> bool:
        """Return whether it says why a packet is dropped; kfree_skb does not in kernels before 5.17."""
        return self.name == "kfree_skb" or self.reason_enum.endswith("_drop_reason")


def functions(btf: Btf, struct_name: str, reason_name: str = "skb_drop_reason") -> list[Function]:
    """Return every function with a parameter `struct sk_buff *` or `**`, whatever qualifiers and typedefs it has.

    They are in the order of their ids; of split BTF only its own.
    """
    prototypes = _prototypes_with(btf, struct_name, reason_name)
    sock_args = _sock_args(btf, struct_name, reason_name)
    offsets = btf.of_kinds(FUNC)
    carriers = sorted(compress(offsets, map(prototypes.__contains__, btf.column(2, offsets))))
    return [
        Function(btf.string(name), btf.id_at(offset), *prototypes[prototype], sock_args.get(prototype, 0))
        for offset, name, prototype in zip(carriers, btf.column(0, carriers), btf.column(2, carriers), strict=True)
    ]


def tracepoints(btf: Btf, struct_name: str, reason_name: str = "skb_drop_reason") -> list[Tracepoint]:
    """Return every tracepoint with such an argument, by name.

    In `typedef void (*btf_trace_NAME)(void *data, ...)` the arguments of the tracepoint come after the first one:
    commit e8c423fb31fa ("bpf: Add typecast to raw_tracepoints to help BTF generation"), in v5.5.
    """
    prototypes = _prototypes_with(btf, struct_name, reason_name)
    sock_args = _sock_args(btf, struct_name, reason_name)
    by_name: dict[str, Tracepoint] = {}
    for offset in btf.prefixed(b"btf_trace_", TYPEDEF):
        start, _, type_id = btf.record_at(offset)[:3]
        pointer = btf.strip(type_id)
        if btf.kind(pointer) != PTR:
            continue
        prototype = btf.strip(btf.record(pointer)[2])
        skb_arg = prototypes.get(prototype, (0, False, 0))[0]
        if skb_arg > 1:
            name = btf.string(start).removeprefix("btf_trace_")
            reason_arg, reason_enum = _reason_of(btf, prototype)
            location = _location_arg(btf, prototype)
            sock = sock_args[prototype] - 2 if prototype in sock_args else None
            by_name.setdefault(name, Tracepoint(name, skb_arg - 2, reason_arg, location, sock, reason_enum))
    return [by_name[name] for name in sorted(by_name)]


def no_trampoline(btf: Btf, btf_id: int) -> str | None:
    """Return why no BPF trampoline (fentry) can be made for a function with such a prototype; None if one can.

    As btf_distill_func_proto() in kernel/bpf/btf.c decides.
    """
    prototype = btf.record(btf.record(btf_id)[2])
    nargs = vlen_of(prototype[1])
    if nargs > _TRAMPOLINE_ARGS:
        return f"it has more than {_TRAMPOLINE_ARGS} arguments"
    if _struct_size(btf, prototype[2]):
        return "it returns a struct"
    arguments = [prototype[4 + 2 * index] for index in range(nargs)]
    if arguments and not arguments[-1]:
        return "it is variadic"
    if any(_struct_size(btf, argument) > _TRAMPOLINE_STRUCT for argument in arguments):
        return "it takes a large struct by value"
    return None


def _struct_size(btf: Btf, type_id: int) -> int:
    """Return the bytes of a struct or union; 0 for any other type."""
    type_id = btf.strip(type_id)
    return btf.record(type_id)[2] if btf.kind(type_id) in (STRUCT, UNION) else 0


def _location_arg(btf: Btf, prototype: int) -> int | None:
    """Return the first `void *` after `void *data` in a tracepoint's prototype, counted from there; none has a name."""
    record = btf.record(prototype)
    for position in range(1, vlen_of(record[1])):
        type_id = btf.strip(record[4 + 2 * position])
        if btf.kind(type_id) == PTR and not btf.strip(btf.record(type_id)[2]):
            return position - 1
    return None


def _reason_of(btf: Btf, prototype: int) -> tuple[int | None, str]:
    """Return the first enum of reasons in a tracepoint's prototype, counted as in _location_arg(), and its name."""
    record = btf.record(prototype)
    for position in range(1, vlen_of(record[1])):
        type_id = btf.strip(record[4 + 2 * position])
        if btf.kind(type_id) in (ENUM, ENUM64) and (name := btf.string(btf.record(type_id)[0])).endswith("_reason"):
            return position - 1, name
    return None, ""


@lru_cache(_CACHED)
def _prototypes_with(btf: Btf, struct_name: str, reason_name: str) -> dict[int, tuple[int, bool, int]]:
    """Return skb_arg, double_pointer and reason_arg of each prototype with a pointer to the struct, by id.

    Those of the base are included.
    """
    prototypes = dict(_prototypes_with(btf.base, struct_name, reason_name)) if btf.base else {}
    _, single, double = _pointers_to(btf, struct_name)
    wanted = single | double
    reasons = set(btf.named(reason_name, ENUM, ENUM64))
    for nargs, offsets in btf.by_vlen(FUNC_PROTO):
        # From the last parameter to the first, so that the first one is what remains.
        skb_args: dict[int, int] = {}
        reason_args: dict[int, int] = {}
        for position in range(nargs, 0, -1):
            types = btf.column(2 + 2 * position, offsets)  # a parameter is a name and a type
            skb_args.update(zip(compress(offsets, map(wanted.__contains__, types)), repeat(position)))
            if not reasons.isdisjoint(types):
                reason_args.update(zip(compress(offsets, map(reasons.__contains__, types)), repeat(position)))
        for offset, position in skb_args.items():
            is_double = btf.record_at(offset)[2 + 2 * position] in double
            prototypes[btf.id_at(offset)] = position, is_double, reason_args.get(offset, 0)
    return prototypes


@lru_cache(_CACHED)
def _sock_args(btf: Btf, struct_name: str, reason_name: str) -> dict[int, int]:
    """Return which parameter is the first `struct sock *`, of those of the prototypes above that have one."""
    _, single, _ = _pointers_to(btf, "sock")
    args: dict[int, int] = {}
    for prototype in _prototypes_with(btf, struct_name, reason_name):
        record = btf.record(prototype)
        types = record[4 : 4 + 2 * vlen_of(record[1]) : 2]
        position = next((position for position, type_id in enumerate(types, 1) if type_id in single), 0)
        if position:
            args[prototype] = position
    return args


@lru_cache(_CACHED)
def _pointers_to(btf: Btf, struct_name: str) -> tuple[set[int], set[int], set[int]]:
    """Return the ids of the types that are the struct, a pointer to it, or a `**`, the base's included.

    Whatever qualifiers and typedefs are around them.
    """
    old_plain, old_single, old_double = (
        _pointers_to(btf.base, struct_name) if btf.base else (set[int](), set[int](), set[int]())
    )
    modifiers = btf.of_kinds(*MODIFIERS)
    modified = btf.column(2, modifiers)
    pointers = btf.of_kinds(PTR)
    pointees = btf.column(2, pointers)

    def ids(offsets: list[int], targets: tuple[int, ...], wanted: set[int]) -> set[int]:
        return set(map(btf.id_at, compress(offsets, map(wanted.__contains__, targets))))

    def closure(types: set[int]) -> set[int]:
        while not (more := ids(modifiers, modified, types)) <= types:
            types |= more
        return types

    # A forward declaration stands for the struct in a unit that does not know more of it.
    plain = closure(old_plain | set(btf.named(struct_name, STRUCT, FWD)))
    single = closure(old_single | ids(pointers, pointees, plain))
    double = closure(old_double | ids(pointers, pointees, single))
    return plain, single, double
