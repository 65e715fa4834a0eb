"""Guest harness: boots the kernels of `vmtest.kernels` under QEMU and runs a command in them.

`python -m vmtest --help` is the command line; from Python::

    from vmtest import find, run
    [kernel] = find(["6.12"])
    result = run(kernel, "uname -r")

What needs to be fetched or built is cached (`vmtest.cache`); nothing is installed on the machine.
"""

from vmtest.guest import Result, run
from vmtest.kernels import KERNELS, Kernel, find

__all__ = ["KERNELS", "Kernel", "Result", "find", "run"]
