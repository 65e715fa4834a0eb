"""The guest's root: a small Debian trixie in an ext4 image, the same for all kernels of an architecture."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmtest import apt, cache, command
from vmtest.arches import NATIVE
from vmtest.errors import VmtestError
from vmtest.fetch import ext4

SUITE = "trixie"
PYTHON = "python3.13"
PACKAGES = (
    *("python3", "libbpf1", "libpcap0.8t64"),  # what pwru needs
    "pwru",  # the Go tool of the same name: the peer in bench/
    *("iproute2", "iptables", "nftables", "conntrack", "ethtool", "bpftool", "tcpdump"),
    *("iputils-ping", "netcat-openbsd", "socat", "iperf3"),
    *("busybox-static", "kmod", "mount", "procps", "strace", "time", "tmux"),
)
# For another architecture, only what a trace needs.
FEW_PACKAGES = (
    *("python3", "libbpf1", "libpcap0.8t64"),
    *("iproute2", "nftables", "iputils-ping", "busybox-static", "kmod", "mount", "procps"),
)
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def root(arch: str = NATIVE) -> Path:
    """Return the cache folder of the root, built if need be; building it requires root.

    It holds `root.img`. The native one also has `python`, the guest's own Python, which `byte_compile` runs on the
    host; that of another architecture has a `busybox` for it.
    """
    if arch == NATIVE:
        return cache.entry("root", (1, SUITE, NATIVE, PACKAGES, LEFT_OUT), _build, 1500)
    return cache.entry(f"root-{arch}", (1, SUITE, arch, FEW_PACKAGES), lambda to: _extract(arch, to), 600)


def _build(to: Path) -> None:
    with debian(to, PACKAGES, "--variant=essential") as tree:
        _take_python(tree, to / "python")
        ext4(tree, to / "root.img")


def _extract(arch: str, to: Path) -> None:
    """Unpack packages without configuring them: their scripts cannot run on this machine."""
    options = ("--variant=extract", "--include=?essential")
    with debian(to, FEW_PACKAGES, *options, arches=(arch,)) as tree:
        for name in ("passwd", "group"):
            shutil.copy(tree / f"usr/share/base-passwd/{name}.master", tree / "etc" / name)
        shutil.copy(tree / "usr/bin/busybox", to / "busybox")
        ext4(tree, to / "root.img")


@contextmanager
def debian(
    to: Path, packages: tuple[str, ...], *options: str, suite: str = SUITE, arches: tuple[str, ...] = (NATIVE,)
) -> Iterator[Path]:
    """Yield a tree in `to` with these packages, which is removed afterwards. `options` are mmdebstrap's."""
    if os.geteuid() != 0:
        raise VmtestError(f"a root with Debian {suite} must be built once: run this as root")
    with_packages = f" with {len(packages)} packages" if packages else ""
    cache.say(f"building a root, Debian {suite} ({', '.join(arches)}){with_packages} …")
    with tempfile.TemporaryDirectory(dir=to) as tmp:
        tree = Path(tmp, "tree")
        proxies = Path(tmp, "proxies")  # mmdebstrap does not read the machine's apt.conf
        proxies.write_text(command.run("apt-config", "dump", "Acquire::http", "Acquire::https"))
        command.run(
            *("mmdebstrap", f"--architectures={','.join(arches)}"),
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
            *options,
            *((f"--include={','.join(packages)}",) if packages else ()),
            *('--aptopt=APT::Install-Recommends "false"', f"--aptopt={proxies}"),
            *(suite, tree, "-"),
            input="\n".join(apt.source(suite, arch) for arch in arches),
        )
        for leftover in ("var/lib/apt/lists", "var/cache"):
            shutil.rmtree(tree / leftover)
            (tree / leftover).mkdir()
        yield tree


def _take_python(tree: Path, to: Path) -> None:
    (to / "lib").mkdir(parents=True)
    shutil.copytree(tree / "usr/lib" / PYTHON, to / "lib" / PYTHON, symlinks=True)
    shutil.copy(tree / "usr/bin" / PYTHON, to / "python")
    [libc] = tree.glob("usr/lib/*/libc.so.6")
    for name in ("ld-linux*.so.*", "libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1"):
        for library in libc.parent.glob(name):
            shutil.copy(library, to)


def byte_compile(tree: Path, at: str) -> None:
    """Compile the modules in `tree` with the guest's Python; `at` is the path of `tree` in the guest.

    Compiling in the guest would take seconds at each start. The compiled code is not checked against
    the times of the sources later, since images and archives change them.
    """
    home = root() / "python"
    [loader] = home.glob("ld-linux*")
    script = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
    command.run(
        *(loader, "--library-path", home, home / "python", "-I", *script, "-s", tree, "-p", at, tree),
        env={"PYTHONHOME": str(home)},
    )
