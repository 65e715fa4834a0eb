"""The guest's root: a small Debian trixie in an ext4 image, the same for all kernels."""

import os
import shutil
import tempfile
from pathlib import Path

from pwru.errors import PwruError
from vmtest import apt, cache, command
from vmtest.fetch import ext4

SUITE, ARCH = "trixie", "amd64"
PYTHON = "python3.13"
PACKAGES = (
    *("python3", "libbpf1", "libpcap0.8t64"),  # what pwru needs
    "pwru",  # the Go tool of the same name: the peer in bench/
    *("iproute2", "iptables", "nftables", "conntrack", "ethtool", "bpftool", "tcpdump"),
    *("iputils-ping", "netcat-openbsd", "socat", "iperf3"),
    *("busybox-static", "kmod", "mount", "procps", "strace", "time", "tmux"),
)
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def root() -> Path:
    """The cache folder of the root, built if need be; building takes root's rights.

    It holds `root.img`, and under `python` the guest's own Python, to be run on the host by
    `byte_compile`.
    """
    recipe = (1, SUITE, ARCH, PACKAGES, LEFT_OUT)
    return cache.entry("root", recipe, _build, 1500)


def _build(to: Path) -> None:
    if os.geteuid() != 0:
        raise PwruError("the guest's root is not built yet, which takes root: run this as root once")
    cache.say(f"building the guest's root, Debian {SUITE} with {len(PACKAGES)} packages …")
    with tempfile.TemporaryDirectory(dir=to) as tmp:
        tree = Path(tmp, "tree")
        proxies = Path(tmp, "proxies")  # mmdebstrap does not read the machine's apt.conf
        proxies.write_text(command.run("apt-config", "dump", "Acquire::http", "Acquire::https"))
        command.run(
            *("mmdebstrap", "--variant=essential", f"--architectures={ARCH}"),
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
            f"--include={','.join(PACKAGES)}",
            *('--aptopt=APT::Install-Recommends "false"', f"--aptopt={proxies}"),
            *(SUITE, tree, "-"),
            input=apt.source(SUITE, ARCH),
        )
        for leftover in ("var/lib/apt/lists", "var/cache"):
            shutil.rmtree(tree / leftover)
            (tree / leftover).mkdir()
        ext4(tree, to / "root.img")
        _take_python(tree, to / "python")


def _take_python(tree: Path, to: Path) -> None:
    (to / "lib").mkdir(parents=True)
    shutil.copytree(tree / "usr/lib" / PYTHON, to / "lib" / PYTHON, symlinks=True)
    shutil.copy(tree / "usr/bin" / PYTHON, to / "python")
    [libc] = tree.glob("usr/lib/*/libc.so.6")
    for name in ("ld-linux*.so.*", "libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1"):
        for library in libc.parent.glob(name):
            shutil.copy(library, to)


def byte_compile(tree: Path, at: str) -> None:
    """Compile what is in `tree` with the guest's Python; in the guest it will be at the path `at`.

    Compiling in the guest would take seconds at each start. The code is not checked against the
    source's time later, since images and archives change it.
    """
    home = root() / "python"
    [loader] = home.glob("ld-linux*")
    script = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
    command.run(
        *(loader, "--library-path", home, home / "python", "-I", *script, "-s", tree, "-p", at, tree),
        env={"PYTHONHOME": str(home)},
    )
