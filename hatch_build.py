"""Build hook: puts `pwru/pwru.bpf.o` into the wheel, made by bpf/Makefile for the machine that builds it.

PWRU_MACHINE names another machine: everything else in the wheel is Python, so x86_64 can build an aarch64 wheel.
"""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# the names of uname(2), and those of the kernel and bpf/Makefile
ARCHES = {"x86_64": "x86", "aarch64": "arm64"}


class BpfObject(BuildHookInterface[Any]):
    """Makes the object if it is missing or older than its sources, and puts the platform into the wheel's tag."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        machine = os.environ.get("PWRU_MACHINE") or platform.machine()
        if machine not in ARCHES:
            self.app.abort(f"pwru is built for {' and '.join(ARCHES)} only, not for {machine}")
        bpf = Path(self.root, "bpf")
        # an editable install runs from the checkout, which gets a link to the object; the wheel gets nothing
        goal = "use" if version == "editable" else "all"
        try:
            made = subprocess.run(
                ["make", "-s", "-C", bpf, f"ARCH={ARCHES[machine]}", goal],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            self.app.abort("make, which builds the BPF object, is missing: apt-get install make")
        if made.returncode:
            self.app.abort(f"the BPF object cannot be built:\n{made.stdout.strip()}")
        if version != "editable":
            built = Path(self.root, "build/bpf", ARCHES[machine], "pwru.bpf.o")
            build_data["force_include"][str(built)] = "pwru/pwru.bpf.o"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{machine}"
