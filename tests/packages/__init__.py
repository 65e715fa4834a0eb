"""Tests of the packages: each is built, and installed as a user would. They take minutes; see `make test-packages`."""
