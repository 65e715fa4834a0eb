"""pwru: packet, where are you?  Traces a packet's way through the Linux kernel, function by function."""

__version__ = "0.1.0"
