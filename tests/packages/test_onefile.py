"""The one-file executable: what is inside, how quickly it starts, and that it runs where nothing is installed."""

import os
import platform
import shutil
import struct
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from vmtest import chroot, fetch, guest, kernels
from vmtest.product import CHECKOUT

SIZE = 12_000_000
START = 0.2  # seconds
ROOTS = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie"}


@pytest.fixture(scope="session")
def onefile() -> Path:
    made = subprocess.run(["make", "-s", "onefile"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return CHECKOUT / f"dist/pwru-{platform.machine()}"


@pytest.fixture(scope="session")
def busybox(onefile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of a root that has busybox, the one file, and nothing else."""
    tree, image = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("image") / "root.img"
    for folder in ("bin", "dev", "etc", "proc", "run", "sys", "tmp", "usr/local/bin"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", tree / "bin")
    (tree / "bin/sh").symlink_to("busybox")
    shutil.copy(onefile, tree / "usr/local/bin/pwru")
    fetch.ext4(tree, image)
    return image


def run_in_guest(kernel: str, image: Path) -> None:
    """Run onefile_in_guest.py on a kernel with this root."""
    [found] = kernels.find([kernel])
    command = "python3 -m pytest -q tests/packages/onefile_in_guest.py"
    result = guest.run(guest.Guest(found, command, timeout=1500, bare=True, disks=(image,)))
    assert result.status == 0, f"{result.error}\n{result.stdout}{result.stderr}"
    assert " passed" in result.stdout


def test_size(onefile: Path) -> None:
    assert onefile.stat().st_size <= SIZE


def test_it_asks_for_no_library(onefile: Path) -> None:
    with onefile.open("rb") as file:
        elf = ELFFile(file)
        segments = {segment["p_type"] for segment in elf.iter_segments()}
        assert "PT_INTERP" not in segments
        dynamic: Any = elf.get_section_by_name(".dynamic")
        assert not [tag for tag in dynamic.iter_tags() if tag.entry.d_tag == "DT_NEEDED"]


def test_libpcap_needs_libc_only(onefile: Path) -> None:
    library = CHECKOUT / f"build/libpcap/{onefile.name.removeprefix('pwru-')}/libpcap.so"
    with library.open("rb") as file:
        dynamic: Any = ELFFile(file).get_section_by_name(".dynamic")
        needed = {tag.needed for tag in dynamic.iter_tags() if tag.entry.d_tag == "DT_NEEDED"}
    assert {name for name in needed if not name.startswith("ld-linux")} == {"libc.so.6"}


def test_start(onefile: Path) -> None:
    """Counted are seconds of CPU time, since other work may run on this machine; the best of some runs."""
    times = []
    for _ in range(10):
        began = os.times()
        subprocess.run([onefile, "--version"], stdout=subprocess.DEVNULL, check=True)
        ended = os.times()
        times.append(ended.children_user + ended.children_system - began.children_user - began.children_system)
    assert min(times) <= START


def test_nothing_is_unpacked(onefile: Path, tmp_path: Path) -> None:
    """Not even for a moment: no file can be made where it runs."""
    limits = ["prlimit", "--fsize=0"]
    folders = {name: str(tmp_path) for name in ("TMPDIR", "HOME", "XDG_RUNTIME_DIR")}
    done = subprocess.run([*limits, onefile, "--help"], env=folders, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.startswith("usage: pwru ")
    assert not [*tmp_path.iterdir()]


def test_where_and_how_it_is_called_does_not_matter(onefile: Path, tmp_path: Path) -> None:
    """Python is told neither by variables nor by the folder where to look for modules."""
    (tmp_path / "argparse.py").write_text("raise SystemExit('not mine')")
    shutil.copy(onefile, tmp_path / "a b")
    done = subprocess.run(
        ["./a b", "--version"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nonexistent", "LC_ALL": "de_DE.ISO-8859-1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("pwru ")
    assert not done.stderr


def test_it_says_how_it_is_used(onefile: Path) -> None:
    """What other packages put beside the command."""
    for words, said in ((["--man"], ".TH PWRU"), (["--completion", "zsh"], "#compdef pwru")):
        done = subprocess.run([onefile, *words], capture_output=True, text=True, check=True)
        assert said in done.stdout
        assert not done.stderr


def test_the_archive_is_one_for_unzip_too(onefile: Path) -> None:
    """Places in it count from the start of the file: its last record has that of the directory."""
    *_, size, at, comment = struct.unpack("<4s4H2LH", onefile.read_bytes()[-22:])
    assert (at + size + 22, comment) == (onefile.stat().st_size, 0)


def test_licences(onefile: Path) -> None:
    with zipfile.ZipFile(onefile) as archive:
        names = {name.partition("/")[2] for name in archive.namelist() if name.startswith("licenses/")}
        versions = archive.read("licenses/debian-packages").decode()
    assert {"libbpf", "libpcap", "libc6-dev", "libffi-dev", "libpython3.13-dev", "pwru-LICENSE"} <= names
    assert "libc6-dev 2." in versions


def test_two_builds_are_the_same(onefile: Path) -> None:
    first = onefile.read_bytes()
    time.sleep(2)  # more than a zip archive's times can tell apart
    subprocess.run(["make", "-s", "onefile"], cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    assert onefile.read_bytes() == first


@pytest.mark.parametrize("kernel", ROOTS)
@pytest.mark.timeout(1800)
def test_in_a_bare_debian(kernel: str, onefile: Path) -> None:
    with chroot.use(chroot.root(ROOTS[kernel])) as root, tempfile.TemporaryDirectory() as tmp:
        to = root.files / "usr/local/bin"
        to.mkdir(parents=True)
        shutil.copy(onefile, to / "pwru")
        image = Path(tmp, "root.img")
        root.image(image)
        run_in_guest(kernel, image)


@pytest.mark.parametrize("kernel", ROOTS)
@pytest.mark.timeout(1800)
def test_with_nothing_but_busybox(kernel: str, busybox: Path) -> None:
    run_in_guest(kernel, busybox)
