"""The architectures of guests, by Debian's names for them, and what QEMU emulates for each."""

from typing import NamedTuple


class Arch(NamedTuple):
    """`uname` is the name in uname(2), Python's and QEMU's; `title` is that in the kernel's documentation.

    `package` is the Debian package with QEMU, `machine` and `cpu` are its -M and -cpu, `console` is its serial port.
    """

    uname: str
    title: str
    package: str
    machine: str
    cpu: str
    console: str

    @property
    def qemu(self) -> str:
        return f"qemu-system-{self.uname}"


NATIVE = "amd64"
# EPYC-v3 is the best CPU that QEMU 7.2 (Debian 12) knows and that all the kernels boot on. It is used without
# cmpxchg16b (cx16): a fault in that instruction corrupts the flags there, and one boot of 6.12 in six panicked. QEMU 10
# has neither problem, and other CPUs gain nothing there. On arm64, pointer authentication is slow to emulate, so the
# CPU is one without.
ARCHES = {
    NATIVE: Arch("x86_64", "x86-64", "qemu-system-x86", "q35", "EPYC-v3,-cx16", "ttyS0"),
    "arm64": Arch("aarch64", "arm64", "qemu-system-arm", "virt", "neoverse-n1", "ttyAMA0"),
}
BY_UNAME = {arch.uname: name for name, arch in ARCHES.items()}
