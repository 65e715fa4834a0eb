"""The initramfs of a guest: its first program, the modules that find the disks, and what is laid over the root."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from vmtest.errors import VmtestError

HERE = Path(__file__).parent
NOT_IN_GUEST = {
    *(".git", ".venv", "build", "dist", "pwru.bpf.o"),
    *("__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
}


def archive(job: dict[str, str], checkout: Path, early: Path, *, busybox: Path | None, wheel: Path | None) -> bytes:
    """Return a cpio archive: `init`, the modules in `early`, and under job/ what is copied into the root.

    `job` are texts of files in /vmtest, by name. `busybox` is that of another architecture. Without `wheel` the
    product is not installed.
    """
    return b"".join(_members(job, checkout, early, busybox, wheel))


def _members(
    job: dict[str, str], checkout: Path, early: Path, busybox: Path | None, wheel: Path | None
) -> Iterator[bytes]:
    yield from _directories("bin", "early", "job/opt", "job/pwru", "job/usr/local/bin", "job/vmtest")
    yield _cpio("init", 0o100755, (HERE / "init").read_bytes())
    yield _cpio("bin/busybox", 0o100755, _busybox(busybox))
    for module in early.iterdir():
        yield _cpio(f"early/{module.name}", 0o100644, module.read_bytes())
    yield _cpio("job/vmtest/start", 0o100644, (HERE / "start").read_bytes())
    for name, text in job.items():
        yield _cpio(f"job/vmtest/{name}", 0o100644, text.encode())
    yield from _tree(checkout, "job/pwru", NOT_IN_GUEST)
    if wheel:
        yield from _directories("job/opt/pwru")
        yield from _tree(wheel / "site", "job/opt/pwru", set())
        yield from _tree(wheel / "bin", "job/usr/local/bin", set())
    yield _cpio("TRAILER!!!", 0)


def _busybox(other: Path | None) -> bytes:
    busybox = other or shutil.which("busybox")
    content = Path(busybox).read_bytes() if busybox else b"/ld-linux"
    if b"/ld-linux" in content[:4096]:  # asks for a dynamic loader, which the initramfs lacks
        raise VmtestError("a static busybox is missing: apt-get install busybox-static")
    return content


def _tree(tree: Path, at: str, leave_out: set[str]) -> Iterator[bytes]:
    for path in sorted(tree.iterdir()):
        if path.name in leave_out:
            continue
        name, mode = f"{at}/{path.name}", path.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield _cpio(name, mode)
            yield from _tree(path, name, leave_out)
        elif stat.S_ISLNK(mode):
            yield _cpio(name, mode, os.readlink(path).encode())
        elif stat.S_ISREG(mode):
            yield _cpio(name, mode, path.read_bytes())


def _directories(*names: str) -> Iterator[bytes]:
    made = set()
    for name in names:
        for path in [*reversed(Path(name).parents), Path(name)][1:]:
            if path not in made:
                made.add(path)
                yield _cpio(str(path), 0o040755)


def _cpio(name: str, mode: int, data: bytes = b"") -> bytes:
    """Return one member of a "newc" archive (linux/Documentation/driver-api/early-userspace/buffer-format.rst)."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)
