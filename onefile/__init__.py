"""Builds the one-file executable: CPython, libbpf and libpcap in one static program, pwru's Python code after it."""
