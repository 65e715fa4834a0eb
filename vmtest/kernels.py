"""The one list of kernels that pwru is tested on, and the search by name."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from vmtest.arches import ARCHES, NATIVE
from vmtest.errors import VmtestError

# Every kernel here has these: it is built with CONFIG_KPROBE_EVENTS, ftrace and BTF.
EVERYWHERE = ("kprobe", "fentry", "tracepoint")
# The kernels for tests that need not run on all of them, by pytest marker. The oldest, the newest and one between them
# differ in what pwru can read and in how it attaches.
RUNS_ON = {
    "oldest_kernel": ("5.10",),
    "one_kernel": ("6.12",),
    "two_kernels": ("5.10", "6.12"),
    "three_kernels": ("5.10", "6.12", "7.2"),
}


@dataclass(frozen=True)
class Kernel:
    """One kernel of Debian's archive. The cloud flavour: small, and with BTF, kprobes and ftrace.

    `suites` are tried in order until one has all the `packages`: regular expressions for whole
    package names, of which the newest version is used. `backends` are those that work on it,
    best first; every other backend must be refused.
    """

    name: str
    release: str
    suites: tuple[str, ...]
    packages: tuple[str, ...]
    backends: tuple[str, ...]
    arch: str = NATIVE

    @property
    def title(self) -> str:
        return f"{self.name.partition('-')[0]}, {ARCHES[self.arch].title}"


KERNELS = (
    Kernel("5.10", "Debian 11", ("bullseye-security",), (r"linux-image-5\.10\.[0-9-]+-cloud-amd64",), EVERYWHERE),
    Kernel("6.1", "Debian 12", ("bookworm",), (r"linux-image-6\.1\.[0-9-]+-cloud-amd64",), EVERYWHERE),
    Kernel(
        "6.12",
        "Debian 13",
        ("trixie",),
        (r"linux-image-6\.12\.[0-9]+\+deb13-cloud-amd64",),
        ("kprobe-multi", *EVERYWHERE),
    ),
    Kernel(
        "6.18",
        "Debian 13 backports",
        ("trixie-backports",),
        (r"linux-image-6\.18\.[0-9]+\+deb13-cloud-amd64",),
        ("kprobe-multi", *EVERYWHERE),
    ),
    Kernel(
        "7.2",
        "Debian unstable",
        ("sid",),
        (
            r"linux-binary-unsigned-7\.2\.[0-9]+\+deb14-cloud-amd64",
            r"linux-base-7\.2\.[0-9]+\+deb14-cloud-amd64",
            r"linux-modules-7\.2\.[0-9]+\+deb14-cloud-amd64",
        ),
        ("kprobe-multi", "fentry-multi", *EVERYWHERE),
    ),
    Kernel(
        "6.12-arm64",
        "Debian 13",
        ("trixie",),
        (r"linux-image-6\.12\.[0-9]+\+deb13-cloud-arm64",),
        EVERYWHERE,
        arch="arm64",
    ),
)


def find(names: Iterable[str]) -> list[Kernel]:
    """Return the kernels with these names, each once, in the order of the names; `all` means every x86-64 kernel.

    Raises VmtestError for an unknown name; the message has the nearest names.
    """
    by_name = {kernel.name: [kernel] for kernel in KERNELS}
    by_name["all"] = [kernel for kernel in KERNELS if kernel.arch == NATIVE]
    selected: dict[str, Kernel] = {}
    for name in names:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=3, cutoff=0.5) or by_name
            raise VmtestError(f"no kernel {name!r} in vmtest/kernels.py; known: {', '.join(near)}")
        selected.update((kernel.name, kernel) for kernel in by_name[name])
    return list(selected.values())
