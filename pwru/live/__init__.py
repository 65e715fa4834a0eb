"""A trace of this kernel: what is attached, read and named."""
