"""What this kernel is: its types, symbols, functions, namespaces and features. Pure on files, paths are parameters."""
