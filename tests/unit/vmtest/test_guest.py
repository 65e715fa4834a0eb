"""The parts of a guest, its command line, and how its console is read."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vmtest import fetch, initramfs
from vmtest.errors import VmtestError
from vmtest.guest import Guest, Parts, command_line, complaints
from vmtest.kernels import find
from vmtest.qemu import Stream

DEP = """\
kernel/fs/overlayfs/overlay.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio-legacy.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio-legacy.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko
"""


def test_modules_load_after_what_they_need_and_once() -> None:
    assert fetch.load_order(DEP, "kernel/fs/ext4/ext4.ko\n", ["virtio_pci", "ext4", "virtio_blk", "overlay"]) == [
        "kernel/drivers/virtio/virtio.ko",
        "kernel/drivers/virtio/virtio-legacy.ko",
        "kernel/drivers/virtio/virtio_pci.ko",
        "kernel/drivers/block/virtio_blk.ko.xz",
        "kernel/fs/overlayfs/overlay.ko",
    ]


def test_names_of_modules_have_underscores() -> None:
    assert fetch.load_order(DEP, "", ["virtio_legacy"])[-1] == "kernel/drivers/virtio/virtio-legacy.ko"


def test_a_module_that_a_guest_needs_and_the_kernel_lacks() -> None:
    with pytest.raises(VmtestError, match="no module ext4"):
        fetch.load_order(DEP, "", ["ext4"])


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: CPU: 0 PID: 1 at net/core/dev.c:1 f+0x1/0x2",
        "BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "Oops: 0000 [#1] SMP PTI",
        "Oops: double fault: 0000 [#1] PREEMPT SMP NOPTI",
        "Kernel panic - not syncing: Attempted to kill init!",
    ],
)
def test_a_complaint_of_the_kernel_is_found(line: str) -> None:
    console = (
        f"[    0.5] mtrr: your CPUs had inconsistent settings\n[    1.744505] {line}\n[    2.0] reboot: Power down\n"
    )
    assert complaints(console) == [line]


def test_a_quiet_console_has_no_complaint() -> None:
    console = (
        "[    0.9] mtrr: your CPUs had inconsistent fixed MTRR settings\n"
        "[    9.4] WARNING: CPU: 0 PID: 188 at kernel/bpf/verifier.c:2731 reg_bounds_sanity_check+0x163/0x210\n"
        "[   14.5] reboot: Power down\n"
    )
    assert complaints(console) == []


def test_the_initramfs_is_one_that_cpio_reads(tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("no busybox, whose cpio reads the archive")
    checkout, linux = tmp_path / "checkout", tmp_path / "linux"
    for folder in ("pwru/__pycache__", ".git", "build", ".ruff_cache"):
        (checkout / folder).mkdir(parents=True)
        (checkout / folder / "file").write_text(folder)
    (checkout / "pwru/cli.py").touch()
    (checkout / "pwru/pwru.bpf.o").write_text("of the machine, not of the wheel")
    (checkout / "größe").write_text("odd")
    (checkout / "run").write_text("odd")
    (checkout / "run").chmod(0o755)
    (checkout / "link").symlink_to("run")
    (linux / "early").mkdir(parents=True)
    (linux / "early/00-virtio.ko").write_bytes(b"module")

    job = {"command": "echo 'a b'\n"}
    archive = initramfs.archive(job, checkout, linux / "early", busybox=None, wheel=None)
    to = tmp_path / "to"
    to.mkdir()
    subprocess.run([busybox, "cpio", "-i", "-d"], input=archive, cwd=to, check=True, stderr=subprocess.PIPE)

    assert os.access(to / "init", os.X_OK)
    assert (to / "early/00-virtio.ko").read_bytes() == b"module"
    assert (to / "job/vmtest/command").read_text() == "echo 'a b'\n"
    assert sorted(p.name for p in (to / "job/pwru").iterdir()) == ["größe", "link", "pwru", "run"]
    assert [p.name for p in (to / "job/pwru/pwru").iterdir()] == ["cli.py"]
    assert os.access(to / "job/pwru/run", os.X_OK)
    assert (to / "job/pwru/link").readlink() == Path("run")


def test_each_line_of_a_stream_is_reported_once_complete() -> None:
    lines: list[str] = []
    stream = Stream(None, lines.append)
    writer = os.dup(stream.writer)  # the one that QEMU has
    stream.start()
    for part in ("a", "b\nc\nd"):
        os.write(writer, part.encode())
    os.close(writer)
    stream.join()
    assert lines == ["ab", "c"]
    assert stream.text() == "ab\nc\nd"


def test_the_command_line_of_qemu() -> None:
    [kernel] = find(["6.12-arm64"])
    parts = Parts(Path("/linux"), Path("/root"), Path("/packages"), None)
    guest = Guest(kernel, "true", smp=4, memory_mb=512)
    words = command_line(guest, parts, Path("/initrd"), Path("/log"), {"status": 7})
    options = dict(itertools.pairwise(words))
    assert words[0] == "qemu-system-aarch64"
    assert (options["-smp"], options["-m"], options["-initrd"], options["-serial"]) == (
        "4",
        "512",
        "/initrd",
        "file:/log",
    )
    disks = [word for word in words if word.startswith("file=")]
    assert [disk.partition(",")[0] for disk in disks] == [
        "file=/root/root.img",
        "file=/linux/modules.img",
        "file=/packages/packages.img",
    ]
    assert "file,id=status,path=/dev/fd/7" in words
    assert "virtconsole,chardev=tty" not in words


def test_one_cpu_whose_time_is_what_it_executed() -> None:
    [kernel] = find(["6.12"])
    parts = Parts(Path("/linux"), Path("/root"), Path("/packages"), None)
    words = command_line(Guest(kernel, None, icount=True), parts, Path("/initrd"), Path("/log"), {})
    assert words[words.index("-smp") + 1] == "1"
    assert "shift=0,sleep=off" in words
    assert "virtconsole,chardev=tty" in words
