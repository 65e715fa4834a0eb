"""Guest harness: boots the kernels of `vmtest.kernels` under QEMU and runs a command in them. See README.md.

`python -m vmtest --help` is the command line; from Python::

    from vmtest import guest, kernels
    [kernel] = kernels.find(["6.12"])
    result = guest.run(guest.Guest(kernel, "uname -r"))
"""
