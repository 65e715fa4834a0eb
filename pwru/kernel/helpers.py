"""What BPF programs call in the kernel: helpers, its other functions, operations of maps; and what the arguments are.

The programs call the functions of a map's type (htab_map_update_elem), not the helper of the UAPI
(bpf_map_update_elem): the verifier puts these into their instructions. It puts the code itself there for lookups in
arrays, and newer kernels do so for some helpers: nothing is called, so nothing can be seen.
"""

from __future__ import annotations

from typing import NamedTuple

from pwru.kernel.btf import FUNC, PTR, STRUCT, Btf
from pwru.kernel.btf.records import vlen_of

BASE = "__bpf_call_base"  # the symbol from which calls are counted
MAX_ARGS = 5  # of what BPF programs call
# Maps in which lookups are code in the program, unless it calls this function: enum bpf_map_type of
# include/uapi/linux/bpf.h
INLINED_TYPES = {2: "array_map_lookup_elem", 6: "percpu_array_map_lookup_elem"}
# Helpers that take a map: BTF has all their arguments as u64. They are called where the verifier does not know the map.
_HELPERS = {
    "bpf_map_lookup_elem": ("map", "key"),
    "bpf_map_lookup_percpu_elem": ("map", "key", "cpu"),
    "bpf_map_update_elem": ("map", "key", "value", "flags"),
    "bpf_map_delete_elem": ("map", "key"),
    "bpf_map_push_elem": ("map", "value", "flags"),
    "bpf_map_pop_elem": ("map", "value"),
    "bpf_map_peek_elem": ("map", "value"),
    "bpf_xdp_redirect_map": ("map", "index", "flags"),
    "bpf_sk_storage_get": ("map", "sk", "value", "flags"),
    "bpf_sk_storage_delete": ("map", "sk"),
}
_INDEXES = ("index", "ifindex")  # a key that is passed itself, not its address
_TAKES_OUT = ("_pop_elem", "_peek_elem")  # the value is where the caller wants it


class Operation(NamedTuple):
    """An operation of a map, which is the first argument. Positions count from 0; None: there is no such argument.

    `by_value`: the key itself is passed. `looks_up`: it returns the address of the value, or NULL; `element`: that of
    the element of a hash instead, which the caller turns into that of the value. `takes_out`: the value is there after
    it has returned 0.
    """

    key: int | None = None
    value: int | None = None
    by_value: bool = False
    looks_up: bool = False
    element: bool = False
    takes_out: bool = False


class Callee(NamedTuple):
    """A function that BPF programs call; `nargs`: how many arguments it has."""

    name: str
    address: int
    btf_id: int
    nargs: int
    operation: Operation | None

    @property
    def at_exit(self) -> bool:
        """Whether what there is to say is known when it has returned."""
        return bool(self.operation and (self.operation.looks_up or self.operation.takes_out))


def callee(btf: Btf, name: str, address: int) -> Callee | None:
    """Return what BTF says of the function; None if nothing."""
    btf_id = btf.find(name, FUNC)
    if btf_id is None:
        return None
    prototype = btf.record(btf.record(btf_id)[2])
    parameters = [(btf.string(prototype[at]), prototype[at + 1]) for at in range(3, 3 + 2 * vlen_of(prototype[1]), 2)]
    return Callee(name, address, btf_id, len(parameters), _operation(btf, name, parameters, prototype[2]))


def _operation(btf: Btf, name: str, parameters: list[tuple[str, int]], returns: int) -> Operation | None:
    if name in _HELPERS:
        names = list(_HELPERS[name])
        looks_up = "lookup" in name
    elif parameters and _is_map(btf, parameters[0][1]):
        names = [parameter.lstrip("_") for parameter, _ in parameters]
        looks_up = _is_address(btf, returns) and "key" in names
    else:
        return None
    index = next((at for at, parameter in enumerate(names) if parameter in _INDEXES), None)
    return Operation(
        key=names.index("key") if "key" in names else index,
        value=names.index("value") if "value" in names and "sk" not in names else None,
        by_value=index is not None,
        looks_up=looks_up,
        element=name.startswith("__htab"),
        takes_out=name.endswith(_TAKES_OUT),
    )


def _is_address(btf: Btf, type_id: int) -> bool:
    pointer = btf.type(type_id)
    return pointer.kind == PTR and not btf.strip(pointer.target)


def _is_map(btf: Btf, type_id: int) -> bool:
    pointer = btf.type(type_id)
    target = btf.type(pointer.target) if pointer.kind == PTR else None
    return target is not None and target.kind == STRUCT and target.name == "bpf_map"
