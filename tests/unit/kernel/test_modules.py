"""Which modules there are and why one is not, from files as the kernel and depmod make them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.kernel import modules

PROC = """\
veth 40960 0 - Live 0xffffffffc0567000
nf_tables 380928 2 nft_ct, Live 0xffffffffc0600000 (E)
zfs 4096 0 - Live 0xffffffffc0700000 (POE)
dummy 16384 0 - Loading 0xffffffffc0560000
bridge 16384 0 - Unloading 0x0000000000000000
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "proc").write_text(PROC)
    for name in ("veth", "nf_tables", "zfs", "dummy", "bridge", "printk", "ext4"):
        (tmp_path / "sys" / name).mkdir(parents=True)
    (tmp_path / "btf").mkdir()
    for name in ("vmlinux", "veth", "nf_tables"):
        (tmp_path / "btf" / name).touch()
    (tmp_path / "modules.dep").write_text(
        "kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/ipv4/udp_tunnel.ko.xz\nkernel/net/sched/sch-tbf.ko:\n"
    )
    (tmp_path / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    return tmp_path


def resolve(files: Path, *names: str) -> list[str]:
    return modules.resolve(
        names, sys=str(files / "sys"), lib=str(files), btf=str(files / "btf"), proc=str(files / "proc")
    )


def test_loaded(files: Path) -> None:
    found = modules.loaded(str(files / "proc"), str(files / "sys"))
    assert list(found) == ["veth", "nf_tables", "zfs"]
    assert found["veth"] == (files / "sys/veth").stat().st_ino
    (files / "sys/veth").rmdir()
    assert "veth" not in modules.loaded(str(files / "proc"), str(files / "sys"))
    assert modules.loaded(str(files / "absent")) == {}


def test_resolve(files: Path) -> None:
    assert resolve(files, "nf-tables", "veth", "nf_tables") == ["nf_tables", "veth"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ext4", "it is built into this kernel and traced without this flag; leave it out"),
        ("vxlan", "it is not loaded; load it (modprobe vxlan), or use `all_modules` to attach when it is loaded"),
        ("sch-tbf", "it is not loaded; load it (modprobe sch_tbf), *"),
        ("printk", "it is no loaded module, but a part of this kernel, *"),
        ("bridge", "it is no loaded module, * or is being loaded or unloaded right now"),
        ("vteh", "there is no such module; did you mean veth[?]"),
        ("vxlam", "there is no such module; did you mean vxlan[?]"),
        ("qqqq", "there is no such module"),
        ("zfs", "the module is built without BTF, so its functions' arguments are not known"),
    ],
)
def test_what_cannot_be_had(files: Path, name: str, message: str) -> None:
    with pytest.raises(PwruError) as error:
        resolve(files, "veth", name)
    assert fnmatchcase(str(error.value), f"`modules` {name.replace('-', '_')}: {message}")


def test_no_btf_of_any_module(files: Path) -> None:
    for name in ("veth", "nf_tables"):
        (files / "btf" / name).unlink()
    with pytest.raises(PwruError, match=r"^`modules` veth: this kernel has no BTF of its modules \(Linux 5\.11"):
        resolve(files, "veth")


def test_nothing_is_known_of_what_could_be_loaded(files: Path) -> None:
    for name in ("modules.dep", "modules.builtin"):
        (files / name).unlink()
    with pytest.raises(PwruError, match=r"there is no such module$"):
        resolve(files, "vxlan")
