"""The BPF object of a run, once it is in the kernel."""

from pwru.libbpf import Map, Object
from pwru.record.layout import Wire
from pwru.record.schema import Schema


class Program:
    """The object in the kernel, with only the program of one backend; close() unloads what nothing is attached to."""

    def __init__(self, bpf: Object, name: str, schema: Schema, wire: Wire) -> None:
        self._bpf = bpf
        self._name = name
        self.schema = schema
        self.wire = wire

    @property
    def fd(self) -> int:
        return self._bpf.program(self._name).fd

    def insns(self) -> bytes:
        return self._bpf.program(self._name).insns()

    def map(self, name: str) -> Map:
        return self._bpf.map(name)

    def counters(self) -> tuple[int, int, int]:
        """Return hits, full and busy of struct counters: the sums over all CPUs."""
        layout = self.wire.layout("counters")
        of_cpus = [layout.unpack(value) for value in self.map("counters").lookup_percpu(bytes(4))]
        hits, full, busy = (sum(getattr(cpu, name) for cpu in of_cpus) for name in ("hits", "full", "busy"))
        return hits, full, busy

    def close(self) -> None:
        self._bpf.close()
