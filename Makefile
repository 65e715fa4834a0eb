# Targets for people and CI; each does its own set-up. The BPF object has a Makefile of its own, bpf/Makefile.

PYTHON ?= python3
KERNELS ?= all
ARGS ?=
VENV := .venv/bin
PWRU_MACHINE ?= $(shell uname -m)

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:
	@echo "make demo          trace a dropped packet, on this machine or in a guest"
	@echo "make test          unit tests, tests on this machine, and each kernel test in a guest of one kernel"
	@echo "make test-unit     the tests that need no guest"
	@echo "make test-native   trace this machine's own tracepoints, if it allows that"
	@echo "make test-kernel   each kernel test in guests of all kernels that it is for; KERNELS='6.12 …'"
	@echo "make test-arm64    every backend in an arm64 guest (make test only checks the BPF object)"
	@echo "make test-packages the packages, man page and completion, as users meet them; in Debian roots and guests"
	@echo "make test-frames   the examples with Polars and pandas, which it installs"
	@echo "make test-report   the page that --report writes, in a browser"
	@echo "make test-install  whether the wheel and the Debian package are built, installed and run"
	@echo "make fuzz          the tests of damaged input, 100 000 cases each; 20 minutes"
	@echo "make lint          style and types: ruff, mypy"
	@echo "make build         the BPF object and a Python environment in .venv"
	@echo "make man           build/man/pwru.8, the man page"
	@echo "make wheel         dist/: a wheel with all libraries, for this machine or PWRU_MACHINE, and the sources"
	@echo "make deb           dist/: a Debian package, for Debian 12 and 13"
	@echo "make rpm           dist/: an RPM"
	@echo "make onefile       dist/pwru-ARCH: one file that runs anywhere, for this machine or PWRU_MACHINE"
	@echo "make image         dist/pwru-image-ARCH.tar: a container image with the one file"
	@echo "make update-traces record tests/traces anew, in guests, and write what is printed of them; ARGS=NAME"
	@echo "make support       write the README's table of kernels and backends"
	@echo "make bench         measure beside the Go tool in guests, and lines/s on this machine; 40 minutes"
	@echo "make conformance   compare the output with the Go tool's, in guests; ARGS=--write keeps the report"
	@echo "make clean         remove what these targets made here; guests stay in ~/.cache/pwru"
	@echo
	@echo "ARGS='-k drop -x' is passed to pytest or to the benchmark. $(VENV)/python -m vmtest runs any command in a guest."

demo: root build guest-packages
	@scripts/packages "for the demo's network" iproute2 nftables iputils-ping
	@$(VENV)/python demo/demo.py

test: test-unit test-arm64-object test-native
	@$(MAKE) test-kernel ONCE=--once

test-unit: test-objects
	$(VENV)/python -m pytest -n auto --dist worksteal tests/unit $(ARGS)

fuzz: test-objects
	PWRU_FUZZ_CASES=100000 $(VENV)/python -m pytest -n auto --dist worksteal tests/unit/fuzz --timeout=0 --durations=10 $(ARGS)

test-kernel: test-objects guest-packages
	@$(VENV)/python -m vmtest --tests $(KERNELS) -- --durations=10 $(ONCE) $(ARGS)

test-arm64-object: test-objects guest-packages
	@$(MAKE) -s -C bpf ARCH=arm64
	$(VENV)/python -m pytest -q tests/arm64

test-arm64: build guest-packages
	@scripts/packages "to run guests of arm64" qemu-system-arm
	@$(VENV)/python -m vmtest --tests 6.12-arm64 -- tests/kernel/test_backends.py $(ARGS)

test-packages: build guest-packages
	@scripts/packages "for the tests of packages" bash-completion fish man-db mandoc shellcheck tshark zsh
	@$(VENV)/python -c 'import kubernetes_validate' 2>/dev/null || \
	  $(VENV)/pip install --quiet --quiet --disable-pip-version-check kubernetes-validate  # 108 MB of schemas
	$(VENV)/python -m pytest tests/packages $(ARGS)

test-frames: build
	@$(VENV)/pip install --quiet --quiet --disable-pip-version-check pandas polars
	$(VENV)/pytest -q tests/unit/test_docs.py -k frames

test-report: build
	@scripts/packages "to look at reports" chromium fonts-dejavu-core
	@$(VENV)/python -c 'import playwright' 2>/dev/null || \
	  $(VENV)/pip install --quiet --quiet --disable-pip-version-check playwright  # 48 MB, without a browser
	$(VENV)/python -m pytest tests/report $(ARGS)

test-install: build
	$(VENV)/python -m pytest -q tests/packages/test_wheel.py tests/packages/test_deb.py -k "contents or runs or filter"

test-native: build
	@scripts/packages "for the network that is traced" iproute2 nftables iputils-ping
	PATH="$(CURDIR)/$(VENV):$$PATH" $(VENV)/python -m pytest -q -k tracepoint tests/kernel/test_backends.py

lint: .venv/ready
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/mypy hatch_build.py demo docs packaging

build: .venv/ready man
	@$(MAKE) -s -C bpf use

man: build/man/pwru.8
	@ln -sfn ../$< pwru/pwru.8

build/man/pwru.8: docs/manpage.py docs/pwru.8.roff pwru/__init__.py pwru/cli/flags.py pwru/cli/parser.py | .venv/ready
	@mkdir -p $(@D)
	@$(VENV)/python -m docs.manpage $@

test-objects: build
	@scripts/packages "for the unit tests" bpftool
	@$(MAKE) -s -C tests/bpf

onefile: build | guest-packages
	@scripts/packages "to make the one file" dpkg-dev mmdebstrap binutils
	@$(MAKE) -s -C vendor/libbpf ARCH=$(PWRU_MACHINE)
	@$(MAKE) -s -C vendor/libpcap ARCH=$(PWRU_MACHINE)
	@$(VENV)/python -m onefile $(PWRU_MACHINE)

image: onefile
	@scripts/packages "to build the image" buildah
	@$(VENV)/python packaging/image.py $(PWRU_MACHINE)

update-traces: test-objects guest-packages
	@$(VENV)/python -m tests.traces record $(ARGS)

support: .venv/ready
	@$(VENV)/python -m vmtest --support

wheel: .venv/ready
	@$(MAKE) -C vendor/libbpf ARCH=$(PWRU_MACHINE)
	@PWRU_MACHINE=$(PWRU_MACHINE) PWRU_LIBBPF=build/libbpf/$(PWRU_MACHINE) $(VENV)/python -m hatchling build -d dist >/dev/null
	@ls -sh dist/pwru-*.whl dist/pwru-*.tar.gz

deb rpm: .venv/ready
	@scripts/packages "to build in a Debian root" mmdebstrap debian-archive-keyring git
	@$(VENV)/python packaging/build.py $@

bench: build guest-packages
	@$(VENV)/python -m bench $(ARGS)

conformance: build guest-packages
	@$(VENV)/python -m tests.conformance $(ARGS)

clean:
	rm -rf build dist .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis pwru/pwru.8 pwru/pwru.bpf.o tests/bpf/*.bpf.o
	find . -name __pycache__ -prune -exec rm -rf {} +

root:
	@[ "$$(id -u)" = 0 ] || { echo "tracing the kernel and making network namespaces require root" >&2; exit 1; }

build-packages:
	@scripts/packages "to build the BPF object and run Python" \
	  'clang-19|clang' 'llvm-19|llvm' libbpf-dev libbpf1 'libpcap0.8t64|libpcap0.8' python3-venv

guest-packages:
	@scripts/packages "to make and run guests" \
	  qemu-system-x86 mmdebstrap e2fsprogs kmod xz-utils busybox-static debian-archive-keyring

.venv/ready: pyproject.toml hatch_build.py | build-packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "pwru needs Python 3.11 or newer: make PYTHON=python3.11" >&2; exit 1; }
	@echo "Python environment: installing into .venv …"
	@$(PYTHON) -m venv .venv
	@$(VENV)/pip install --quiet --quiet --disable-pip-version-check --editable '.[dev]'
	@echo "Python environment: $$(du -sh .venv | cut -f1) ready"
	@touch $@

.PHONY: help root demo test test-unit test-native test-kernel test-packages test-frames test-report test-install fuzz \
	test-arm64 test-arm64-object lint build man test-objects update-traces support wheel deb rpm onefile image bench conformance clean \
	build-packages guest-packages
