"""The rules of the house: imports point downwards, nothing private is used elsewhere, and no file or function is long.

Floors are listed from the top. A module may import from its own package and from the floors below; two packages on one
floor do not know each other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pwru.cli.flags import FLAGS

ROOT = Path(__file__).parents[2]
FLOORS = (
    ("__main__",),
    ("cli",),
    ("commands",),
    ("",),  # the Python API: pwru/__init__.py
    ("live", "replay", "sinks"),
    ("events", "filter"),
    ("record",),
    ("kernel", "libbpf"),
    ("ebpf", "limits"),
    ("errors", "vendored"),
)
PRODUCT = sorted(ROOT.glob("pwru/**/*.py"))
EVERYTHING = [
    path for top in ("pwru", "tests", "bench", "vmtest", "demo") for path in sorted(ROOT.glob(f"{top}/**/*.py"))
]
MAX_LINES, MAX_FUNCTION, MAX_POSITIONAL = 400, 60, 5


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name: str) -> str:
    """The package of a module below pwru."""
    return name.split(".")[1] if "." in name else ""


FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
MODULES = {module(path) for path in PRODUCT}


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Each import of a module of the product: the module, and the name taken from it or "". In functions and under
    TYPE_CHECKING, too."""
    own = module(path)
    package = own if path.name == "__init__.py" else own.rpartition(".")[0]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "pwru")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                start = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                base = f"{start}.{base}".rstrip(".")
            if base.split(".")[0] != "pwru":
                continue
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield (whole, "") if whole in MODULES else (base, alias.name)


@pytest.mark.parametrize("path", PRODUCT, ids=module)
def test_imports_point_downwards(path: Path) -> None:
    own = room(module(path))
    for name, taken in imports(path):
        if (name, taken) == ("pwru", "__version__"):
            continue
        theirs = room(name)
        assert theirs == own or FLOOR[theirs] > FLOOR[own], f"{module(path)} imports {name}"


def test_no_circle() -> None:
    """Among all modules, whatever package they are in."""
    graph = {module(path): {name for name, taken in imports(path) if taken != "__version__"} for path in PRODUCT}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' → '.join((*way, name))}"
        if name not in done:
            for other in sorted(graph[name] - {name}):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def strings(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("path", PRODUCT, ids=module)
def test_no_flag_is_named_below_cli(path: Path) -> None:
    """Neither in a message nor in a docstring: parameters have names of their own there."""
    if room(module(path)) in ("cli", "__main__"):
        return
    flags = {name for flag in FLAGS for name in flag.names if name.startswith("--")}
    for line, text in strings(path):
        assert not flags & set(re.findall(r"--[a-z][\w-]+", text)), f"{path}:{line}"


@pytest.mark.parametrize("path", PRODUCT, ids=module)
def test_nothing_is_printed_below_commands(path: Path) -> None:
    if FLOOR[room(module(path))] <= FLOOR["commands"]:
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name):
            assert node.id not in ("print", "say", "input"), f"{path}:{node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
            assert node.attr != "stderr", f"{path}:{node.lineno}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own_names(path: Path) -> set[str]:
    """The private names that a file defines: attributes of its classes and objects, functions, variables."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return {name for name in names if is_private(name)}


# Named tuples have these, and argparse, ctypes and re what cannot be had otherwise.
PUBLIC_IN_FACT = {"_replace", "_asdict", "_fields", "_make", "_fields_"}
FOREIGN = {"argparse._", "os._exit", "re._parser", "sys._"}


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_private_name_of_another_module(path: Path) -> None:
    own = own_names(path) | PUBLIC_IN_FACT
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            taken = [alias.name for alias in node.names if is_private(alias.name)]
            base = (node.module or "").rpartition(".")[2]
            assert not taken, f"{path}:{node.lineno}: {taken}"
            assert not is_private(base) or base in ("_api", "_typeshed"), f"{path}:{node.lineno}: {base}"
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            whole = ast.unparse(node)
            assert node.attr in own or any(whole.startswith(foreign) for foreign in FOREIGN), (
                f"{path}:{node.lineno}: {whole}"
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            private = re.fullmatch(r"pwru(?:\.\w+)+\._\w+|pwru(?:\.\w+)+:_\w+", node.value)
            assert not private, f"{path}:{node.lineno}: {node.value}"
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).startswith("vars("):
            assert not ast.unparse(node.slice).startswith("'_"), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    """The table of flags apart."""
    table = path == ROOT / "pwru/cli/flags.py"
    assert table or len(path.read_text().splitlines()) <= MAX_LINES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert table or lines <= MAX_FUNCTION, f"{path}:{node.lineno}: {node.name} has {lines} lines"
            arguments = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args]]
            count = len(arguments) - (arguments[:1] in (["self"], ["cls"]))
            fixture = "tests" in path.parts or path.name == "conftest.py"  # pytest hands these over by name
            assert fixture or count <= MAX_POSITIONAL, f"{path}:{node.lineno}: {node.name} has {count} parameters"


def test_helpers_are_in_modules_of_their_own() -> None:
    """Nothing is imported from a test module or a conftest."""
    for path in EVERYTHING:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or "", *(f"{node.module or ''}.{alias.name}" for alias in node.names)]
                for name in modules:
                    last = name.rpartition(".")[2]
                    assert not re.fullmatch(r"test_\w+|conftest", last), f"{path}:{node.lineno}: {name}"


def numbers_of_the_wire() -> dict[str, int]:
    """The constants of bpf/pwru.h by name."""
    text = (ROOT / "bpf/pwru.h").read_text()
    return {
        name: int(value, 0) for name, value in re.findall(r"^\s+([A-Z][A-Z0-9_]+) = (0x[0-9a-f]+|\d+),", text, re.M)
    }


def test_no_number_of_the_wire_stands_in_python() -> None:
    """Neither under its name, nor, for those that are not everyday numbers, anywhere."""
    numbers = numbers_of_the_wire()
    assert len(numbers) > 15
    strange = {value for value in numbers.values() if value > 1 << 16}
    assert strange
    for path in EVERYTHING:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    name = ast.unparse(target).lstrip("_")
                    assert name not in numbers or node.value.value != numbers[name], f"{path}:{node.lineno}: {name}"
            if isinstance(node, ast.Constant) and isinstance(node.value, int):
                assert node.value not in strange, f"{path}:{node.lineno}: {node.value:#x}"
