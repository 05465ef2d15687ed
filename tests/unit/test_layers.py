"""The layers of engine/__init__.py, read from the source: who may import whom, and what every module says on top."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Bottom to top; those of one row stand side by side and do not import each other.
ROWS = (
    ("base",),
    ("protocol",),
    ("message",),
    ("net",),
    ("storage",),
    ("routing",),
    ("queue",),
    ("delivery",),
    ("intake",),
    ("feedback", "feed"),
    ("tracking",),
    ("admin", "tools"),
    ("daemon",),
    ("cli",),
)
#: Layers that must see less than their height allows: a tool that shares code with the engine hides its faults.
ONLY = {"tools": {"base", "protocol", "message", "net", "tools"}}
HEIGHT = {layer: height for height, row in enumerate(ROWS) for layer in row}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "engine").rglob("*.py"))
}


def imports_of(source: str, module: str) -> Iterator[str]:
    """Names of our modules that this source imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "engine")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            if node.module and node.module.split(".")[0] == "engine":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in MODULES else node.module


GRAPH = {name: sorted(set(imports_of(path.read_text(), name))) for name, path in MODULES.items()}


def layer_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def breaches(graph: dict[str, list[str]]) -> list[str]:
    found = []
    for module, imported in graph.items():
        mine = layer_of(module)
        for other in imported:
            theirs = layer_of(other)
            if not mine or not theirs or mine == theirs:
                continue  # engine/__init__.py itself is below everything: a version and nothing else
            if HEIGHT[theirs] >= HEIGHT[mine] or theirs not in ONLY.get(mine, HEIGHT):
                found.append(f"{module} imports {other}")
    return found


def cycle_in(graph: dict[str, list[str]]) -> list[str]:
    """One circle of imports, as the modules along it; [] if there is none."""
    done: set[str] = set()

    def walk(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return []
        for other in graph.get(module, ()):
            if found := walk(other, [*trail, module]):
                return found
        done.add(module)
        return []

    return next((found for module in graph if (found := walk(module, []))), [])


def test_every_module_is_in_a_known_layer() -> None:
    assert {layer_of(module) for module in MODULES} - {""} <= HEIGHT.keys()


def test_no_layer_imports_from_above() -> None:
    assert breaches(GRAPH) == []


def test_no_circle_of_imports() -> None:
    assert cycle_in(GRAPH) == []


def test_the_rules_catch_what_they_should() -> None:
    """The test of the test: a rule that never fires is worse than none."""
    assert breaches({"engine.base.x": ["engine.net.y"]}) == ["engine.base.x imports engine.net.y"]
    assert breaches({"engine.admin.x": ["engine.tools.y"]}) == ["engine.admin.x imports engine.tools.y"]
    assert breaches({"engine.tools.x": ["engine.queue.y"]}) == ["engine.tools.x imports engine.queue.y"]
    assert breaches({"engine.cli.x": ["engine.daemon.y", "engine"]}) == []
    assert cycle_in({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    source = "def f():\n    from engine.base import errors\n    import engine.net"
    assert list(imports_of(source, "x")) == ["engine.base.errors", "engine.net"]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_states_its_job(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    text = ast.get_docstring(tree)
    assert text, f"{module} has no docstring"
    assert len(text.splitlines()[0]) <= 120


@pytest.mark.parametrize("module", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_packages_hold_a_docstring_and_no_re_exports(module: str) -> None:
    rest = ast.parse(MODULES[module].read_text()).body[1:]
    allowed = ["__version__"] if module == "engine" else []
    assert [ast.unparse(node).split(" ")[0] for node in rest] == allowed


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_longer_than_a_sitting(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 400
