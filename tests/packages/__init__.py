"""Tests of what is installed: they build it and try it, which takes minutes. `make test-packages` runs them."""
