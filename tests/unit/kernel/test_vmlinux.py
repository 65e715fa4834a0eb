"""The reader of BTF against bpftool's reading of this machine's vmlinux and, where it has them, of its modules."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pwru.kernel import btf
from pwru.kernel.btf import Btf, Function, Tracepoint, read_btf, records, vmlinux_btf

BPFTOOL = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin:/sbin")
VMLINUX = Path(btf.VMLINUX)

pytestmark = [
    pytest.mark.three_kernels,
    pytest.mark.skipif(BPFTOOL is None, reason="there is no bpftool"),
    pytest.mark.skipif(not VMLINUX.exists(), reason="the kernel has no BTF"),
]

Type = dict[str, Any]
MODIFIERS = {"TYPEDEF", "VOLATILE", "CONST", "RESTRICT", "TYPE_TAG"}


@cache
def dump(path: Path) -> list[Type]:
    base = [] if path == VMLINUX else ["--base-btf", str(VMLINUX)]
    command = [str(BPFTOOL), "-j", *base, "btf", "dump", "file", str(path), "format", "raw"]
    types: list[Type] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["types"]
    return types


class Oracle:
    """The same questions answered type by type."""

    def __init__(self, path: Path = VMLINUX) -> None:
        self.types = dump(path)
        self.by_id: dict[int, Type] = {entry["id"]: entry for entry in dump(VMLINUX) + self.types}
        self.by_id[0] = {"kind": "VOID", "name": "void"}

    def strip(self, type_id: int) -> Type:
        while self.by_id[type_id]["kind"] in MODIFIERS:
            type_id = self.by_id[type_id]["type_id"]
        return self.by_id[type_id]

    def pointers(self, type_id: int, name: str = "sk_buff") -> int | None:
        """How many pointers there are before the struct, None if it is something else."""
        entry = self.strip(type_id)
        if entry["kind"] == "PTR":
            inner = self.pointers(entry["type_id"], name)
            return None if inner is None else inner + 1
        return 0 if entry["kind"] in ("STRUCT", "FWD") and entry["name"] == name else None

    def is_reason(self, type_id: int) -> bool:
        return bool(self.by_id[type_id]["kind"] == "ENUM" and self.by_id[type_id]["name"] == "skb_drop_reason")

    def functions(self) -> list[Function]:
        found = []
        for entry in self.types:
            if entry["kind"] != "FUNC":
                continue
            parameters = [parameter["type_id"] for parameter in self.by_id[entry["type_id"]]["params"]]
            skbs = [(n, self.pointers(p)) for n, p in enumerate(parameters, 1) if self.pointers(p) in (1, 2)]
            if skbs:
                reason = next((n for n, p in enumerate(parameters, 1) if self.is_reason(p)), 0)
                position, pointers = skbs[0]
                sock = next((n for n, p in enumerate(parameters, 1) if self.pointers(p, "sock") == 1), 0)
                found.append(Function(entry["name"], entry["id"], position, pointers == 2, reason, sock))
        return found

    def tracepoints(self) -> list[Tracepoint]:
        found: dict[str, Tracepoint] = {}
        for entry in self.types:
            if entry["kind"] != "TYPEDEF" or not entry["name"].startswith("btf_trace_"):
                continue
            prototype = self.strip(self.strip(entry["type_id"])["type_id"])
            parameters = [parameter["type_id"] for parameter in prototype["params"]][1:]
            skb = next((n for n, p in enumerate(parameters) if self.pointers(p) in (1, 2)), None)
            if skb is not None:
                enums = ((n, self.strip(p)) for n, p in enumerate(parameters))
                named = ((n, e["name"]) for n, e in enums if e["kind"] == "ENUM" and e["name"].endswith("_reason"))
                reason, enum = next(named, (None, ""))
                voids = (n for n, p in enumerate(parameters) if self.is_void_pointer(p))
                name = entry["name"].removeprefix("btf_trace_")
                sock = next((n for n, p in enumerate(parameters) if self.pointers(p, "sock") == 1), None)
                found.setdefault(name, Tracepoint(name, skb, reason, next(voids, None), sock, enum))
        return [found[name] for name in sorted(found)]

    def is_void_pointer(self, type_id: int) -> bool:
        entry = self.strip(type_id)
        return bool(entry["kind"] == "PTR" and self.strip(entry["type_id"])["kind"] == "VOID")

    def members(self, name: str) -> list[tuple[str, int, int]]:
        """Name, bit offset and bits of bitfields of a struct's members, anonymous ones unfolded."""

        def unfold(entry: Type, start: int) -> list[tuple[str, int, int]]:
            found = []
            for member in entry["members"]:
                inner = self.strip(member["type_id"])
                at = start + member["bits_offset"]
                if member["name"] == "(anon)" and inner["kind"] in ("STRUCT", "UNION"):
                    found += unfold(inner, at)
                else:
                    found.append((member["name"], at, member.get("bitfield_size", 0)))
            return found

        return unfold(next(t for t in self.types if t["kind"] == "STRUCT" and t["name"] == name), 0)


@pytest.fixture(scope="module")
def vmlinux() -> Btf:
    return vmlinux_btf()


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


def test_functions(vmlinux: Btf, oracle: Oracle) -> None:
    functions = btf.functions(vmlinux, "sk_buff")
    assert functions == oracle.functions()
    assert len(functions) > 1000


def test_tracepoints(vmlinux: Btf, oracle: Oracle) -> None:
    tracepoints = btf.tracepoints(vmlinux, "sk_buff")
    assert tracepoints == oracle.tracepoints()
    assert {"kfree_skb", "net_dev_queue", "netif_receive_skb"} <= {tracepoint.name for tracepoint in tracepoints}


def test_every_type_is_found_by_its_name(vmlinux: Btf, oracle: Oracle) -> None:
    assert vmlinux.count == len(oracle.types) + 1
    lowest: dict[tuple[str, str], int] = {}
    for entry in oracle.types:
        lowest.setdefault((entry["kind"], entry["name"]), entry["id"])
    named = [(kind, name) for kind, name in lowest if name != "(anon)" and kind not in ("DECL_TAG", "TYPE_TAG")]
    for kind, name in named[::1999]:
        assert vmlinux.find(name, getattr(records, kind)) == lowest[kind, name], (kind, name)


@pytest.mark.parametrize("name", ["skb_drop_reason", "bpf_attach_type", "pid_type", "netdev_state_t"])
def test_enums(vmlinux: Btf, oracle: Oracle, name: str) -> None:
    entry = next((t for t in oracle.types if t["kind"] in ("ENUM", "ENUM64") and t["name"] == name), None)
    wanted: dict[int, str] = {}
    for value in entry["values"] if entry else ():
        # bpftool extends the sign of 32 bits even where there is none.
        unsigned = entry and entry["kind"] == "ENUM" and entry["encoding"] == "UNSIGNED"
        wanted.setdefault(value["val"] & 0xFFFFFFFF if unsigned else value["val"], value["name"])
    assert vmlinux.enum(name) == (wanted if entry else None)


def test_enumerators(vmlinux: Btf, oracle: Oracle) -> None:
    enums = [entry for entry in oracle.types if entry["kind"] in ("ENUM", "ENUM64")]
    assert vmlinux.enumerators() == {value["name"] for entry in enums for value in entry["values"]}
    (listen,) = {value["val"] for entry in enums for value in entry["values"] if value["name"] == "TCP_LISTEN"}
    assert vmlinux.enumerator("TCP_LISTEN") == {listen}


@pytest.mark.parametrize("name", ["sk_buff", "net_device", "iphdr", "tcphdr", "in6_addr", "skb_shared_info"])
def test_structs(vmlinux: Btf, oracle: Oracle, name: str) -> None:
    found = vmlinux.struct(name)
    assert found is not None
    assert found.size == next(t["size"] for t in oracle.types if t["kind"] == "STRUCT" and t["name"] == name)
    assert [(m.name, m.bit_offset, m.bit_size) for m in found.members] == oracle.members(name)
    for member in found.members:
        assert member.offset + member.size <= found.size or member.bit_size


@pytest.mark.differs("6.12")
def test_modules(vmlinux: Btf) -> None:
    modules = [path for path in sorted(VMLINUX.parent.iterdir()) if path != VMLINUX]
    if not modules:
        pytest.skip("no module with BTF is loaded")
    for path in modules:
        assert btf.functions(read_btf(path, vmlinux), "sk_buff") == Oracle(path).functions(), path
