"""The one list of kernels that pwru is tested on, and how a name on the command line finds them."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from vmtest.arches import ARCHES, NATIVE
from vmtest.errors import VmtestError

# What every kernel here has: they are built with CONFIG_KPROBE_EVENTS, with ftrace and with BTF.
EVERYWHERE = ("kprobe", "fentry", "tracepoint")
# Where tests run that do not have something else to say on each kernel, by their pytest marker: the oldest, the newest
# and one between them are told apart by what pwru finds to read and to attach with.
RUNS_ON = {"one_kernel": ("6.12",), "three_kernels": ("5.10", "6.12", "7.2")}


@dataclass(frozen=True)
class Kernel:
    """One kernel of Debian's archive. The cloud flavour: small, and with BTF, kprobes and ftrace.

    `suites` are tried in order until one has all the `packages`: regular expressions for whole
    package names, of which the newest version is taken. `backends` are those that work on it,
    best first; every other one has to be refused.
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
    """The kernels with these names, each once, in the order of the names; `all` stands for all of x86-64.

    Raises VmtestError for an unknown name, with the nearest ones.
    """
    by_name = {kernel.name: [kernel] for kernel in KERNELS}
    by_name["all"] = [kernel for kernel in KERNELS if kernel.arch == NATIVE]
    found: dict[str, Kernel] = {}
    for name in names:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=3, cutoff=0.5) or by_name
            raise VmtestError(f"no kernel {name!r} in vmtest/kernels.py; there is {', '.join(near)}")
        found.update((kernel.name, kernel) for kernel in by_name[name])
    return list(found.values())
