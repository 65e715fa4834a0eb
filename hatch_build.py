"""Build hook: puts into the wheel what is made for it: the BPF object, the man page, completion of shells, and libbpf.

`pwru/pwru.bpf.o` is made by bpf/Makefile, for the machine that builds it.
PWRU_MACHINE names another machine than this one: nothing needs to run to build for it.
PWRU_LIBBPF is a folder that vendor/libbpf has filled, `build/libbpf/MACHINE`. Without it the wheel works with the
system's libbpf, and nothing is downloaded either way.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# the names of uname(2), and those of the kernel and bpf/Makefile
ARCHES = {"x86_64": "x86", "aarch64": "arm64"}
LIBBPF = ("libbpf.so", "libbpf.so.LICENSES")
# what vendor/libbpf is built for: PEP 600, glibc 2.28 or newer
PORTABLE = "manylinux_2_28"


class NotPython(BuildHookInterface[Any]):
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
        libbpf = os.environ.get("PWRU_LIBBPF")
        if libbpf and version != "editable":
            for name in LIBBPF:
                file = Path(self.root, libbpf, name)
                if not file.exists():
                    self.app.abort(f"PWRU_LIBBPF: {file} is missing: make -C vendor/libbpf ARCH={machine}")
                build_data["force_include"][str(file)] = f"pwru/libbpf/{name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{PORTABLE if libbpf else 'linux'}_{machine}"
        self._add_documents(version, build_data)

    def _add_documents(self, version: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root, "build/man")
        folder.mkdir(parents=True, exist_ok=True)
        page = folder / "pwru.8"
        self._python("docs.manpage", page)
        for shell in ("bash", "zsh", "fish"):
            (folder / f"pwru.{shell}").write_text(self._python("pwru", "--completion", shell))
        if version == "editable":
            link = Path(self.root, "pwru/pwru.8")
            link.unlink(missing_ok=True)
            link.symlink_to("../build/man/pwru.8")
        else:
            build_data["force_include"][str(page)] = "pwru/pwru.8"

    def _python(self, module: str, *arguments: str | Path) -> str:
        """Run a module of the checkout and return what it prints."""
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        if done.returncode:
            self.app.abort(f"{module} failed:\n{done.stderr.strip()}")
        return done.stdout
