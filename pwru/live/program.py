"""The BPF object of a run, once it is in the kernel."""

from typing import NamedTuple

from pwru.libbpf import Map, Object
from pwru.record.layout import Wire
from pwru.record.schema import Schema


class Counters(NamedTuple):
    """See struct counters of bpf/pwru.h."""

    hits: int
    full: int
    busy: int
    ends_unseen: int
    no_room: int
    no_stack: int


def variant(name: str, *, following: bool) -> str:
    """Return the name of a program of the object: those that follow packets are programs of their own."""
    return f"{name}_following" if following else name


class Program:
    """The object in the kernel, with only the programs of a run; close() unloads what nothing is attached to."""

    def __init__(self, bpf: Object, name: str, schema: Schema, wire: Wire) -> None:
        self._bpf = bpf
        self._name = name
        self.schema = schema
        self.wire = wire

    @property
    def fd(self) -> int:
        return self._bpf.program(self._name).fd

    def fds(self) -> list[int]:
        """Return the descriptors of all programs of the object that are in the kernel."""
        return self._bpf.loaded()

    def insns(self, name: str = "") -> bytes:
        """Return the instructions of the backend's program, or of another one that was loaded besides."""
        return self._bpf.program(name or self._name).insns()

    def map(self, name: str) -> Map:
        return self._bpf.map(name)

    def counters(self) -> Counters:
        """Return the members of struct counters: the sums over all CPUs."""
        layout = self.wire.layout("counters")
        of_cpus = [layout.unpack(value) for value in self.map("counters").lookup_percpu(bytes(4))]
        return Counters(*(sum(getattr(cpu, name) for cpu in of_cpus) for name in Counters._fields))

    def followed(self) -> set[int]:
        """Return the skbs that are followed, by `instance` of struct follow."""
        layout, follow = self.wire.layout("followed"), self.wire.layout("follow")
        values = self.map("followed").values(key_size=8)
        return {follow.unpack(layout.unpack(value).follow).instance for value in values}

    def follows(self, skb: int, instance: int) -> bool:
        """Return whether the skb at an address is followed, and is this one."""
        value = self.map("followed").lookup(skb.to_bytes(8, "little"))
        if value is None:
            return False
        follow = self.wire.layout("follow").unpack(self.wire.layout("followed").unpack(value).follow)
        return bool(follow.instance == instance)

    def close(self) -> None:
        self._bpf.close()
