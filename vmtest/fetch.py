"""Kernels for guests, from Debian's packages: downloaded and unpacked, never installed."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from vmtest import apt, cache, command
from vmtest.errors import VmtestError
from vmtest.kernels import Kernel

# The modules that mount the root and talk to the host before modprobe can be used
EARLY = ("virtio_pci", "virtio_blk", "virtio_console", "ext4", "overlay")
RECIPE = 1  # raise it to fetch every kernel again


def linux(kernel: Kernel) -> Path:
    """Return the cache folder of a kernel, fetched if need be.

    It holds `vmlinuz`, `release` (the output of `uname -r`), `modules.img` (ext4: the content of
    /usr/lib/modules/RELEASE, decompressed) and `early/NN-NAME.ko`, to be loaded in this order.
    """
    recipe = (RECIPE, kernel.suites, kernel.packages, kernel.arch, EARLY)
    return cache.entry(f"linux-{kernel.name}", recipe, lambda to: _fetch(kernel, to), 700)


def _fetch(kernel: Kernel, to: Path) -> None:
    with tempfile.TemporaryDirectory(dir=to) as tmp:
        debs, tree = Path(tmp, "debs"), Path(tmp, "tree")
        debs.mkdir()
        for package in _download(kernel, debs):
            command.run("dpkg-deb", "-x", package, tree)
        trees = [*tree.glob("lib/modules/*"), *tree.glob("usr/lib/modules/*")]
        images = [file for top in (tree / "boot", *trees) for file in top.glob("vmlinuz*")]
        if len(trees) != 1 or len(images) != 1:
            raise VmtestError(f"the packages of Linux {kernel.name} do not hold one kernel and its modules")
        modules = trees[0]
        shutil.move(images[0], to / "vmlinuz")
        (to / "release").write_text(modules.name)
        if packed := list(modules.rglob("*.ko.xz")):  # modprobe is slow to decompress in a guest
            command.run("xz", "-d", *packed)
        base = Path(tmp, "base")  # which of the two paths depmod uses depends on its build
        (base / "usr/lib/modules").mkdir(parents=True)
        (base / "lib").symlink_to("usr/lib")
        modules = Path(shutil.move(modules, base / "usr/lib/modules"))
        command.run("depmod", "-b", base, modules.name)
        dep, builtin = (modules / f"modules.{name}" for name in ("dep", "builtin"))
        (to / "early").mkdir()
        for number, module in enumerate(load_order(dep.read_text(), builtin.read_text(), EARLY)):
            shutil.copy(modules / module, to / "early" / f"{number:02}-{Path(module).name}")
        ext4(modules, to / "modules.img")


def _download(kernel: Kernel, to: Path) -> list[Path]:
    for suite in kernel.suites:
        with apt.Apt(suite, kernel.arch) as private:
            packages = apt.newest(private.index(), kernel.packages)
            if packages:
                total = sum(int(p["Size"]) for p in packages) / 1e6
                cache.say(
                    f"Linux {kernel.name}: fetching {packages[0]['Package']} {packages[0]['Version']} ({total:.0f} MB)"
                )
                return private.download(packages, to)
    raise VmtestError(
        f"no package for Linux {kernel.name} in {', '.join(kernel.suites)}: "
        "vmtest/kernels.py wants another pattern or suite"
    )


def load_order(dep: str, builtin: str, wanted: Iterable[str]) -> list[str]:
    """Return the files to load, in order, for these modules; `dep` and `builtin` are the texts of modules.dep(5)
    and modules.builtin.

    Raises VmtestError for a module that is neither a file nor built in.
    """
    files: dict[str, tuple[str, list[str]]] = {}
    for line in dep.splitlines():
        file, needs = line.split(":")
        files[_module(file)] = (file, needs.split())
    built_in = {_module(line) for line in builtin.splitlines()}
    order: list[str] = []
    for name in wanted:
        if name in files:
            file, others = files[name]
            # a module's dependencies are listed from the nearest to the deepest
            order += [f for f in (*reversed(others), file) if f not in order]
        elif name not in built_in:
            raise VmtestError(f"the kernel has no module {name}, which a guest needs")
    return order


def _module(file: str) -> str:
    return Path(file).name.partition(".ko")[0].replace("-", "_")


def ext4(tree: Path, image: Path) -> None:
    """Make an image of `tree`, to be mounted read-only."""
    room = int(cache.size_mb(tree) * 1.1) + 16
    options = ("-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-F")
    command.run("mke2fs", *options, "-d", tree, image, f"{room}M")
