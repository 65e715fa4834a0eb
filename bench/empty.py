"""pwru with a program that does nothing in the place of its own: the floor of what a probe hit costs."""

import sys

from pwru import cli, libbpf, tracer

NOTHING = bytes((0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0))  # r0 = 0; exit


class Nothing(libbpf.Program):
    def __init__(self, attach_type: int) -> None:
        self._fd = libbpf.prog_load(libbpf.BPF_PROG_TYPE_KPROBE, NOTHING, expected_attach_type=attach_type)

    @property
    def fd(self) -> int:
        return self._fd


class Object(libbpf.Object):
    def program(self, name: str) -> libbpf.Program:
        return Nothing(libbpf.BPF_TRACE_KPROBE_MULTI if "multi" in name else 0)


if __name__ == "__main__":
    vars(tracer)["Object"] = Object
    sys.exit(cli.main())
