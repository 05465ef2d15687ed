"""`make install`: what it lays down works by itself, far from the checkout."""

import os
import subprocess
from pathlib import Path

import pytest

from engine import __version__
from tests.support.kills import survive_kills

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("install") / "prefix"
    etc = path / "etc" / "postrider"
    etc.mkdir(parents=True)
    (etc / "postrider.toml").write_text('[node]\nname = "mine.example.org"\n')
    install(path)
    return path


def install(prefix: Path) -> str:
    command = ["make", "--no-print-directory", "install", f"PREFIX={prefix}", "DESTDIR="]
    environ = {**os.environ, "POSTRIDER_OPTIMIZE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run(prefix: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """The installed program, from elsewhere and with nothing of this environment that could help it."""
    program = str(prefix / "bin" / "postrider")
    return subprocess.run([program, *argv], cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)


def test_it_runs_without_the_checkout(prefix: Path) -> None:
    assert run(prefix, "--version").stdout == f"postrider {__version__} (compiled)\n"
    module = "import engine; print(engine.__file__)"
    python = prefix / "lib" / "postrider" / "venv" / "bin" / "python"
    shown = subprocess.run([python, "-I", "-c", module], cwd="/", capture_output=True, text=True, check=True).stdout
    assert shown.startswith(str(prefix))
    pointing = [path for path in prefix.rglob("*") if path.is_file() and str(ROOT).encode() in path.read_bytes()]
    assert pointing == []


def test_it_finds_its_settings_and_leaves_the_operators_alone(prefix: Path) -> None:
    etc = prefix / "etc" / "postrider"
    assert (etc / "postrider.toml").read_text() == '[node]\nname = "mine.example.org"\n'
    for table in ("providers.toml", "bounces.toml", "scanners.toml"):
        assert (etc / table).read_bytes() == (ROOT / "config" / table).read_bytes()
    checked = run(prefix, "check")
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "postrider.toml: ok")


def test_settings_elsewhere_find_the_provider_table_that_came_with_it(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "postrider.toml").touch()
    assert run(prefix, "check", "-c", str(tmp_path / "postrider.toml")).returncode == 0


def test_what_is_compiled_does_what_the_rest_of_the_tests_ask_for(prefix: Path, tmp_path: Path) -> None:
    survive_kills(tmp_path, 4, [str(prefix / "bin" / "postrider")])


def test_the_unit_names_what_was_installed(prefix: Path) -> None:
    for name, command in (("postrider", "serve"), ("postrider-redirect", "redirect")):
        unit = (prefix / "lib" / "systemd" / "system" / f"{name}.service").read_text()
        assert f"ExecStart={prefix}/bin/postrider {command} -c {prefix}/etc/postrider/postrider.toml\n" in unit
        assert "/usr/local" not in unit
    assert os.access(prefix / "bin" / "postrider", os.X_OK)
    assert (prefix / "lib" / "sysusers.d" / "postrider.conf").exists()
