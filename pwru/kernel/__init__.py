"""The running kernel: its types, symbols, functions, namespaces, features; from files whose paths are parameters."""
