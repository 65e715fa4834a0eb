"""vendor/libbpf: one library that needs libc only, has libbpf's functions only, and is the same each time."""

import ctypes
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packages import elf
from vmtest.product import CHECKOUT

VENDOR = CHECKOUT / "vendor/libbpf"
BUILT = CHECKOUT / "build/libbpf"
MACHINES = ("x86_64", "aarch64")
# Debian 11's, the oldest that pwru is for
OLDEST_GLIBC = (2, 31)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-s", "-C", str(VENDOR), *arguments]
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def setting(name: str) -> str:
    """Return what the Makefile sets."""
    [value] = re.findall(rf"^{name} := (\S+)$", (VENDOR / "Makefile").read_text(), re.MULTILINE)
    return str(value)


@pytest.fixture(scope="module", params=MACHINES)
def library(request: pytest.FixtureRequest) -> Path:
    made = make(f"ARCH={request.param}")
    assert made.returncode == 0, made.stdout
    return BUILT / str(request.param) / "libbpf.so"


def test_needs_libc_only(library: Path) -> None:
    # the dynamic linker is a part of glibc: it has __tls_get_addr
    assert elf.needed(library) - {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"} == {"libc.so.6"}


def test_runs_with_an_old_glibc(library: Path) -> None:
    assert elf.newest_glibc(library) <= tuple(map(int, setting("GLIBC").split("."))) <= OLDEST_GLIBC


def test_exports_the_functions_of_libbpf_only(library: Path) -> None:
    script = (BUILT / "sources/libbpf/src/libbpf.map").read_text()
    assert elf.exported(library) == set(re.findall(r"^\s+(\w+);$", script, re.MULTILINE))


def test_has_no_path_of_the_machine_that_built_it(library: Path) -> None:
    assert str(CHECKOUT).encode() not in library.read_bytes()


def test_licences_are_beside_it(library: Path) -> None:
    text = library.with_name("libbpf.so.LICENSES").read_text()
    zlib = setting("ZLIB").rpartition("really")[2]
    for part in (f"libbpf {setting('LIBBPF')},", f"elfutils {setting('ELFUTILS')},", f"zlib {zlib},"):
        assert part in text
    for part in ("LIBBPF", "ELFUTILS", "ZLIB"):
        assert f"https://snapshot.debian.org/file/{setting(f'{part}_SHA1')}\n" in text
    for title in ("BSD-2-Clause", "GNU GENERAL PUBLIC LICENSE", "Jean-loup Gailly"):
        assert title in text


def test_is_the_version_that_is_named() -> None:
    assert make().returncode == 0
    library = ctypes.CDLL(str(BUILT / platform.machine() / "libbpf.so"))
    assert setting("LIBBPF").startswith(f"{library.libbpf_major_version()}.{library.libbpf_minor_version()}.")


def test_two_builds_are_the_same(library: Path, tmp_path: Path) -> None:
    """The second one is elsewhere, and takes nothing from the compiler's cache."""
    made = make(f"ARCH={library.parent.name}", f"OUT={tmp_path}/out", f"CACHE={tmp_path}/cache")
    assert made.returncode == 0, made.stdout
    assert (tmp_path / "out/libbpf.so").read_bytes() == library.read_bytes()


def test_nothing_is_done_twice(library: Path) -> None:
    before = library.stat().st_mtime_ns
    made = make(f"ARCH={library.parent.name}")
    assert (made.returncode, made.stdout, library.stat().st_mtime_ns) == (0, "", before)


def test_a_file_with_another_checksum_is_refused(tmp_path: Path) -> None:
    made = make(f"SOURCES={tmp_path}", f"ZLIB_SHA256={'0' * 64}", f"{tmp_path}/zlib.ready")
    complaint, *rest = made.stdout.splitlines()
    assert made.returncode != 0
    assert re.fullmatch(
        r"zlib_\S+\.orig\.tar\.gz is not the file that was asked for: its SHA-256 is [0-9a-f]{64}, not 0{64}", complaint
    )
    assert all(line.startswith("make: ***") for line in rest), made.stdout
    assert not list(tmp_path.glob("zlib_*"))


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    assert make().returncode == 0
    [good] = (BUILT / "sources").glob("zlib_*")
    damaged = tmp_path / good.name
    shutil.copy(good, damaged)
    with damaged.open("r+b") as file:
        file.truncate(1000)
    made = make(f"SOURCES={tmp_path}", f"{tmp_path}/zlib.ready")
    assert (made.returncode, damaged.read_bytes() == good.read_bytes()) == (0, True), made.stdout


def test_a_version_that_nobody_has_is_one_line(tmp_path: Path) -> None:
    made = make(f"SOURCES={tmp_path}", "ZLIB=0.0.0", f"{tmp_path}/zlib.ready")
    complaint, *rest = made.stdout.splitlines()
    assert made.returncode != 0
    assert complaint == (
        "zlib_0.0.0.orig.tar.gz is neither in Debian's pool nor at snapshot.debian.org, or there is no network"
    )
    assert all(line.startswith("make: ***") for line in rest), made.stdout
