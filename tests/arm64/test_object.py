"""The BPF object for arm64 against the BTF of an arm64 kernel: the relocations that libbpf would do there.

bpftool calculates each CO-RE relocation with libbpf's code and reports, as libbpf does, which have no match. Nothing is
loaded here; `make test-arm64` does that.
"""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from pwru.kernel.btf import functions, read_btf
from vmtest import fetch
from vmtest.kernels import find

OBJECT = Path(__file__).parents[2] / "build/bpf/arm64/pwru.bpf.o"
SAID = re.compile(r"^libbpf: prog '(\S+)': relo #(\d+): (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def btf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BTF cut out of the kernel's image, which arm64 does not compress (linux/Documentation/arch/arm64/booting.rst)."""
    [kernel] = find(["6.12-arm64"])
    image = (fetch.linux(kernel) / "vmlinuz").read_bytes()
    # struct btf_header in include/uapi/linux/btf.h: magic, version 1, no flags, its length; types begin at once
    start = image.index(struct.pack("<HBBII", 0xEB9F, 1, 0, 24, 0))
    _, strings, size = struct.unpack_from("<III", image, start + 12)
    file = tmp_path_factory.mktemp("arm64") / "btf"
    file.write_bytes(image[start : start + 24 + strings + size])
    return file


def relocations(btf: Path, to: Path) -> tuple[int, list[str]]:
    """The number of relocations in the object, and those that do not resolve."""
    done = subprocess.run(
        ["bpftool", "-d", "gen", "min_core_btf", btf, to, OBJECT], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    wanted, unresolved = {}, []
    for program, number, what in SAID.findall(done.stderr + done.stdout):
        if what.startswith("<"):  # "<byte_off> [37] struct sk_buff.dev (0:0 @ offset 0)"
            wanted[program, number] = what
        elif what.startswith("no matching targets"):
            unresolved.append(wanted[program, number])
    # checks for existence, and names of other kernels (struct x___old), may fail to resolve
    return len(wanted), [what for what in unresolved if "_exists>" not in what and "___" not in what]


def test_all_relocations_resolve(btf: Path, tmp_path: Path) -> None:
    total, unresolved = relocations(btf, tmp_path / "min")
    assert total > 20
    assert unresolved == []


def test_what_does_not_resolve_is_seen(btf: Path, tmp_path: Path) -> None:
    """On a kernel whose `struct sk_buff` has another name."""
    other = tmp_path / "btf"
    other.write_bytes(btf.read_bytes().replace(b"\0sk_buff\0", b"\0sk_xxxx\0"))
    _, unresolved = relocations(other, tmp_path / "min")
    assert unresolved


def test_its_functions_are_found(btf: Path) -> None:
    names = {function.name for function in functions(read_btf(btf), "sk_buff")}
    assert {"ip_rcv", "__ip_local_out", "tcp_v4_rcv"} <= names
