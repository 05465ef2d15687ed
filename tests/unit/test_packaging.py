"""What `make setup` installs is locked, and every target sets itself up."""

import ast
import importlib.metadata
import os
import re
import runpy
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKED = (ROOT / "constraints.txt").read_text().splitlines()
VERSIONS = {line.split("==")[0].lower().replace("_", "-"): line.split("==")[1] for line in LOCKED}


def direct_dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    return [re.split(r"[<>=!~\[ ]", text)[0] for text in wanted]


def test_the_lock_is_names_and_versions_and_nothing_else() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.+]*", line) for line in LOCKED)
    assert sorted(LOCKED, key=str.lower) == LOCKED
    assert "postrider" not in VERSIONS


@pytest.mark.parametrize("name", direct_dependencies())
def test_every_dependency_is_locked_and_what_is_locked_is_installed(name: str) -> None:
    assert VERSIONS[name.lower().replace("_", "-")] == importlib.metadata.version(name)


def test_what_dependencies_need_is_locked_too() -> None:
    """Or a fresh machine would get another version of it than this one."""
    missing = set()
    for name in VERSIONS:
        for text in importlib.metadata.requires(name) or ():
            needed = re.split(r"[<>=!~\[( ;]", text)[0].lower().replace("_", "-").replace(".", "-")
            if ";" not in text and needed not in VERSIONS:
                missing.add(f"{name} needs {needed}")
    assert missing == set()


def test_every_target_sets_up_first() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = dict(re.findall(r"^([a-z-]+):[ ]?(.*)$", makefile, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony
    assert set(targets) == set(phony[1].split())
    assert [name for name, needs in targets.items() if not {"setup", "packages"} & set(needs.split())] == [
        "help",
        "setup",
        "clean",
    ]


def test_nothing_that_is_compiled_has_a_base_that_is_not() -> None:
    """mypyc lays such a class out wrongly, and the garbage collector walks into the void (mypyc 2.4, Python 3.11)."""
    classes = _classes(_compiled())
    sound = {"NamedTuple", "Protocol", "ABC", "Generic", "Enum", "Flag", "IntEnum", "StrEnum"}
    assert set[str]().union(*classes.values()) <= sound | classes.keys()


def test_nothing_that_is_not_compiled_has_a_base_that_is() -> None:
    """It could not be made an object of."""
    compiled, kinds = _compiled(), {"NamedTuple", "Protocol", "Enum", "Flag", "IntEnum", "StrEnum"}
    native = {(path, name) for path in compiled for name, bases in _classes([path]).items() if not bases & kinds}
    for path in {str(path.relative_to(ROOT)) for path in (ROOT / "engine").rglob("*.py")} - set(compiled):
        imports = [node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.ImportFrom)]
        named = {(f"{(node.module or '').replace('.', '/')}.py", one.name) for node in imports for one in node.names}
        assert not {name for _, name in named & native} & set[str]().union(*_classes([path]).values()), path


def _compiled() -> list[str]:
    modules: list[str] = runpy.run_path(str(ROOT / "setup.py"))["modules"]()
    return modules


def _classes(paths: Iterable[str]) -> dict[str, set[str]]:
    """By name, their bases; without those that mypyc leaves as they are."""
    trees = [ast.parse((ROOT / path).read_text()) for path in paths]
    found = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {
        node.name: {ast.unparse(base).partition("[")[0].removeprefix("enum.") for base in node.bases}
        for node in found
        if "mypyc_attr(native_class=False)" not in map(ast.unparse, node.decorator_list)
    }


@pytest.mark.parametrize("path", [".ci/run", "tests/support/packages.sh"])
def test_scripts_are_executable_and_parse(path: str) -> None:
    assert os.access(ROOT / path, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / path], check=True)


def test_nothing_that_is_compiled_awaits_where_an_exception_is_handled() -> None:
    for path in _compiled():
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if not isinstance(node, ast.Try):
                continue
            handling = [node.finalbody, *(handler.body for handler in node.handlers)]
            inside = [each for body in handling for statement in body for each in ast.walk(statement)]
            assert not any(isinstance(each, ast.Await) for each in inside), path
