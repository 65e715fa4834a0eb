"""Facts that are saved: given back to the same pwru on the same kernel, and to nobody else."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pwru.kernel import facts
from pwru.kernel.facts import Facts

FOUND = [["ip_rcv", 1, True], ["kfree_skb", 2, False]]


def notes(build_id: bytes) -> bytes:
    """As the kernel has them: another note, whose description is padded, then the build ID."""
    other = struct.pack("=3I", 6, 1, 256) + b"Linux\0\0\0" + b"\7\0\0\0"
    return other + struct.pack("=3I", 4, len(build_id), 3) + b"GNU\0" + build_id


@pytest.fixture
def remember(tmp_path: Path) -> Callable[..., Facts]:
    def make(build_id: bytes = b"\x12\x34") -> Facts:
        path = tmp_path / "notes"
        path.write_bytes(notes(build_id))
        return Facts(str(tmp_path / "cache"), str(path))

    return make


def file(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "cache").iterdir()
    return found


def fill(remember: Callable[..., Facts]) -> None:
    first = remember()
    assert first.get("functions") is None
    first.set("functions", FOUND)
    first.save()


def knows(remembered: Facts) -> bool:
    return bool(remembered.get("functions") == FOUND)


def test_the_next_run_remembers(remember: Callable[..., Facts], tmp_path: Path) -> None:
    fill(remember)
    assert knows(remember())
    assert file(tmp_path).name == "1234.json"
    assert file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert file(tmp_path).parent.stat().st_mode & 0o777 == 0o700


def test_answers_are_added(remember: Callable[..., Facts]) -> None:
    fill(remember)
    second = remember()
    second.set("tracepoints", 30)
    second.save()
    third = remember()
    assert knows(third)
    assert third.get("tracepoints") == 30


def test_nothing_new_is_not_written(remember: Callable[..., Facts], tmp_path: Path) -> None:
    fill(remember)
    written = file(tmp_path).stat().st_ino
    again = remember()
    assert knows(again)
    again.save()
    assert file(tmp_path).stat().st_ino == written


def test_another_kernel(remember: Callable[..., Facts]) -> None:
    fill(remember)
    assert not knows(remember(b"\x12\x35"))


@pytest.mark.parametrize("data", [b"", b"short", struct.pack("=3I", 4, 100, 3) + b"GNU\0"])
def test_no_build_id(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(data)
    for _ in range(2):
        first = Facts(str(tmp_path / "cache"), str(tmp_path / "notes"))
        assert not knows(first)
        first.set("functions", FOUND)
        first.save()
    assert not (tmp_path / "cache").exists()


def test_another_version(remember: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    fill(remember)
    monkeypatch.setattr(facts, "__version__", "0.0.9")
    assert not knows(remember())


def test_another_schema(remember: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    fill(remember)
    monkeypatch.setattr(facts, "SCHEMA", facts.SCHEMA + 1)
    assert not knows(remember())


@pytest.mark.parametrize("at", ["first", "title", "checksum", "middle", "last"])
def test_a_damaged_file(at: str, remember: Callable[..., Facts], tmp_path: Path) -> None:
    fill(remember)
    data = bytearray(file(tmp_path).read_bytes())
    title = data.index(b"\n")
    place = {"first": 0, "title": title, "checksum": title + 3, "middle": len(data) - 10, "last": len(data) - 1}[at]
    data[place] ^= 1
    file(tmp_path).write_bytes(data)
    assert not knows(remember())
    again = remember()
    again.set("functions", FOUND)
    again.save()
    assert knows(remember())


@pytest.mark.parametrize("size", [0, 10, 60, -1])
def test_a_file_that_is_cut_off(size: int, remember: Callable[..., Facts], tmp_path: Path) -> None:
    fill(remember)
    file(tmp_path).write_bytes(file(tmp_path).read_bytes()[:size])
    assert not knows(remember())


def test_who_else_could_have_written_it(remember: Callable[..., Facts], tmp_path: Path) -> None:
    fill(remember)
    path = file(tmp_path)
    for changed in (path, path.parent):
        mode = changed.stat().st_mode
        for bad in (0o020, 0o002):
            changed.chmod(mode | bad)
            assert not knows(remember())
        changed.chmod(mode)
    assert knows(remember())
    if os.geteuid() == 0:
        os.chown(path, 1, -1)
        assert not knows(remember())


def test_a_link_is_not_followed(remember: Callable[..., Facts], tmp_path: Path) -> None:
    fill(remember)
    path = file(tmp_path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert not knows(remember())


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(notes(b"\1"))
    (tmp_path / "file").touch()
    first = Facts(str(tmp_path / "file" / "cache"), str(tmp_path / "notes"))
    first.set("functions", FOUND)
    first.save()


def test_few_kernels_are_kept(remember: Callable[..., Facts], tmp_path: Path) -> None:
    for number in range(12):
        one = remember(bytes([number + 1]))
        one.set("functions", FOUND)
        one.save()
        os.utime(tmp_path / "cache" / f"{number + 1:02x}.json", (number, number))
    assert {path.stem for path in (tmp_path / "cache").iterdir()} == {f"{n:02x}" for n in range(5, 13)}
