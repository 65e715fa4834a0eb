"""What a start of pwru imports, in a process of its own."""

import subprocess
import sys

TRACE = (
    "from pwru.cli.options import parse; parse(['tcp']);"
    "import pwru.commands.trace, pwru.live.backends.kprobe_multi, pwru.libbpf, pwru.sinks.text"
)


def modules(code: str) -> set[str]:
    """Return the modules that this code imports, beyond those of the interpreter itself."""

    def after(code: str) -> set[str]:
        command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
        return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())

    return after(code) - after("pass")
