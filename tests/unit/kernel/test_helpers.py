"""What BPF programs call: which arguments are the key and the value, by BTF."""

from __future__ import annotations

import pytest

from pwru.kernel.btf import Btf
from pwru.kernel.helpers import Callee, Operation, callee
from tests.unit.kernel.btf_writer import Writer


def functions() -> Btf:
    w = Writer()
    u64, pointer = w.integer("long long unsigned int", 8), w.ref("PTR", 0)
    of_maps = ("map", w.ref("PTR", w.ref("CONST", w.struct("bpf_map", 8, ("id", u64, 0)))))
    key, value, flags = ("key", pointer), ("value", pointer), ("flags", u64)

    def function(name: str, *parameters: tuple[str, int], returns: int = 0) -> None:
        w.add("FUNC", name, w.proto(*parameters, returns=returns))

    function("htab_map_update_elem", of_maps, key, value, flags, returns=u64)
    function("trie_delete_elem", of_maps, ("_key", pointer), returns=u64)
    function("trie_lookup_elem", of_maps, ("_key", pointer), returns=pointer)
    function("__htab_map_lookup_elem", of_maps, key, returns=pointer)
    function("queue_map_pop_elem", of_maps, value, returns=u64)
    function("dev_map_redirect", of_maps, ("ifindex", u64), flags, returns=u64)
    function("bpf_map_lookup_elem", ("map", u64), ("key", u64), returns=u64)
    function("bpf_for_each_hash_elem", of_maps, ("callback_fn", pointer), returns=u64)
    function("bpf_sk_storage_get", ("map", u64), ("sk", u64), ("value", u64), flags, returns=u64)
    function("bpf_skb_load_bytes", *((f"a{number}", u64) for number in range(4)), returns=u64)
    return Btf(w.data())


@pytest.mark.parametrize(
    ("name", "nargs", "operation", "at_exit"),
    [
        ("htab_map_update_elem", 4, Operation(key=1, value=2), False),
        ("trie_delete_elem", 2, Operation(key=1), False),
        ("trie_lookup_elem", 2, Operation(key=1, looks_up=True), True),
        ("__htab_map_lookup_elem", 2, Operation(key=1, looks_up=True, element=True), True),
        ("queue_map_pop_elem", 2, Operation(value=1, takes_out=True), True),
        ("dev_map_redirect", 3, Operation(key=1, by_value=True), False),
        ("bpf_map_lookup_elem", 2, Operation(key=1, looks_up=True), True),
        ("bpf_for_each_hash_elem", 2, Operation(), False),
        ("bpf_sk_storage_get", 4, Operation(), False),
        ("bpf_skb_load_bytes", 4, None, False),
    ],
)
def test_callee(name: str, nargs: int, operation: Operation | None, at_exit: bool) -> None:
    btf = functions()
    found = callee(btf, name, 4096)
    assert found is not None
    assert found == Callee(name, 4096, found.btf_id, nargs, operation)
    assert btf.string(btf.record(found.btf_id)[0]) == name
    assert found.at_exit is at_exit


def test_unknown_to_btf() -> None:
    assert callee(functions(), "bpf_redirect", 4096) is None
