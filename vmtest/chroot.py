"""Debian roots on this machine, of any suite, in which packages are built and tried out.

A root is made once by mmdebstrap and kept. Each use of it starts from that state: changes go into a folder of its own.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmtest import apt, cache, command
from vmtest.arches import NATIVE
from vmtest.errors import VmtestError

# In a mount namespace of its own, so that nothing stays mounted. $1 is the root, $2 where the changes go.
MOUNT = """set -e
root=$1 changes=$2
shift 2
mount -t overlay -o "lowerdir=$root,upperdir=$changes/upper,workdir=$changes/work" overlay "$changes/root"
"""
ENTER = """
for part in dev proc sys; do mount --rbind /$part "$changes/root/$part"; done
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \\
    chroot "$changes/root" sh -euc "$1"
"""


def root(suite: str, packages: tuple[str, ...] = (), hooks: tuple[str, ...] = (), needs_mb: int = 500) -> Path:
    """Return the folder of a minimal root with these packages; building it requires root.

    `hooks` are shell commands that mmdebstrap runs at the end, with the root as `$1`.
    Raises VmtestError if it cannot be built.
    """

    def build(to: Path) -> None:
        cache.say(f"building a root, Debian {suite} …")
        proxies = to / "proxies"  # mmdebstrap does not read the machine's apt.conf
        proxies.write_text(command.run("apt-config", "dump", "Acquire::http", "Acquire::https"))
        command.run(
            *("mmdebstrap", "--mode=root", "--variant=minbase", f"--architectures={NATIVE}"),
            *('--aptopt=APT::Install-Recommends "false"', f"--aptopt={proxies}"),
            *([f"--include={','.join(packages)}"] if packages else []),
            *(f"--customize-hook={hook}" for hook in hooks),
            # the lists stay, for packages that are installed later
            "--skip=cleanup/apt/lists",
            *(suite, to / "tree", "-"),
            input=apt.source(suite, NATIVE),
        )

    return cache.entry(f"chroot-{suite}", (1, NATIVE, packages, hooks), build, needs_mb) / "tree"


@dataclass(frozen=True)
class Chroot:
    """A root in use. `files` is the folder of what was changed in it, which can be read and written from outside."""

    root: Path
    changes: Path

    @property
    def files(self) -> Path:
        return self.changes / "upper"

    def run(self, script: str, *, network: bool = True) -> str:
        """Run a shell script in the root. Return its stdout and stderr.

        Without `network` it has a network namespace of its own, in which there is nothing.
        Raises VmtestError with the whole output if the script fails.
        """
        return self._mounted(ENTER, script, *([] if network else ["--net"]))

    def image(self, to: Path) -> None:
        """Make an ext4 image of the root as it is now."""
        room = int((cache.size_mb(self.root) + cache.size_mb(self.files)) * 1.1) + 16
        options = "-q -t ext4 -O ^has_journal -m 0 -F"
        self._mounted(f'exec mke2fs {options} -d "$changes/root" "$1" {room}M', str(to))

    def _mounted(self, script: str, argument: str, *namespaces: str) -> str:
        done = subprocess.run(
            [
                *("unshare", "--mount", "--propagation=private", *namespaces),
                *("sh", "-c", MOUNT + script, "sh", str(self.root), str(self.changes), argument),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        output = done.stdout.decode(errors="replace")
        if done.returncode:
            raise VmtestError(f"exit status {done.returncode}:\n{output}")
        return output


@contextmanager
def use(root: Path) -> Iterator[Chroot]:
    """Yield the root for use; what was changed in it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="vmtest-chroot-") as tmp:
        for name in ("upper", "work", "root"):
            Path(tmp, name).mkdir()
        yield Chroot(root, Path(tmp))
