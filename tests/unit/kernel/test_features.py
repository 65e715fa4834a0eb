"""What the kernel has, on files and BTF made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.kernel import features
from pwru.kernel.btf import Btf
from tests.unit.kernel.btf_writer import Writer


def status(tmp_path: Path, *capabilities: str) -> str:
    effective = sum(1 << features.CAPABILITIES[name] for name in capabilities)
    path = tmp_path / "status"
    path.write_text(f"Name:\tpwru\nCapPrm:\t000001ffffffffff\nCapEff:\t{effective:016x}\nCapBnd:\t000001ffffffffff\n")
    return str(path)


@pytest.mark.parametrize(
    ("has", "missing"),
    [
        ((), ["CAP_BPF", "CAP_PERFMON"]),
        (("CAP_SYSLOG", "CAP_NET_ADMIN"), ["CAP_BPF", "CAP_PERFMON"]),
        (("CAP_BPF", "CAP_SYSLOG"), ["CAP_PERFMON"]),
        (("CAP_BPF", "CAP_PERFMON"), []),
        (("CAP_SYS_ADMIN",), []),
    ],
)
def test_missing_capabilities(tmp_path: Path, has: tuple[str, ...], missing: list[str]) -> None:
    assert features.missing_capabilities(status=status(tmp_path, *has)) == missing


def test_other_capabilities(tmp_path: Path) -> None:
    path = status(tmp_path, "CAP_SYS_ADMIN")
    wanted = ("CAP_SYS_RESOURCE", "CAP_SYS_ADMIN", "CAP_SYSLOG")
    assert features.missing_capabilities(wanted, path) == ["CAP_SYS_RESOURCE", "CAP_SYSLOG"]


def test_capability_numbers_are_those_of_the_kernel() -> None:
    header = Path("/usr/include/linux/capability.h")
    if not header.exists():
        pytest.skip("no kernel headers")
    defined = dict(line.split()[1:3] for line in header.read_text().splitlines() if line.startswith("#define CAP_"))
    assert {name: int(defined[name]) for name in features.CAPABILITIES} == features.CAPABILITIES


def test_user_namespace(tmp_path: Path) -> None:
    path = tmp_path / "uid_map"
    path.write_text("         0          0 4294967295\n")
    assert not features.in_user_namespace(str(path))
    path.write_text("         0       1000          1\n")
    assert features.in_user_namespace(str(path))
    assert not features.in_user_namespace(str(tmp_path / "absent"))


def test_without_proc(tmp_path: Path) -> None:
    with pytest.raises(PwruError, match=r"cannot read .*absent \(No such file or directory\): mount /proc"):
        features.missing_capabilities(status=str(tmp_path / "absent"))


def test_tracefs(tmp_path: Path) -> None:
    first, second = tmp_path / "tracing", tmp_path / "debug"
    first.mkdir()
    assert features.tracefs((str(first), str(second))) is None
    (second / "events").mkdir(parents=True)
    assert features.tracefs((str(first), str(second))) == second


def test_lockdown(tmp_path: Path) -> None:
    path = tmp_path / "lockdown"
    assert features.lockdown(str(path)) is None
    for mode in ("none", "integrity", "confidentiality"):
        path.write_text("none integrity confidentiality\n".replace(mode, f"[{mode}]"))
        assert features.lockdown(str(path)) == mode


@pytest.mark.parametrize("on", [features.ftrace_enabled, features.kprobes_enabled, features.jit_enabled])
def test_switches(on: Callable[[str], bool], tmp_path: Path) -> None:
    path = tmp_path / "switch"
    assert on(str(path))  # unknown: what is refused will say so
    for text, is_on in (("0\n", False), ("1\n", True), ("2\n", True)):
        path.write_text(text)
        assert on(str(path)) == is_on


def test_btf_of_an_old_and_a_new_kernel() -> None:
    old, new = Writer(), Writer()
    old.enum("bpf_func_id", ("BPF_FUNC_map_lookup_elem", 1))
    old.struct("__kernel_sockaddr_storage", 128)
    new.enum("bpf_func_id", ("BPF_FUNC_map_lookup_elem", 1), ("BPF_FUNC_ktime_get_coarse_ns", 160))
    kfunc = new.func("bpf_rdonly_cast", 0)
    storage = new.struct("__kernel_sockaddr_storage", 128)
    old.struct("bpf_raw_tp_link", 8, ("btp", old.integer("u64", 8), 0))
    new.struct("bpf_raw_tp_link", 16, ("btp", u64 := new.integer("u64", 8), 0), ("cookie", u64, 64))
    assert not features.raw_tracepoint_cookie(Btf(old.data()))
    assert features.raw_tracepoint_cookie(Btf(new.data()))
    assert features.charges_memlock(Btf(old.data()))
    assert not features.charges_memlock(Btf(new.data()))
    assert features.rdonly_cast(Btf(old.data())) == []
    assert features.rdonly_cast(Btf(new.data())) == [kfunc, storage]
