"""What a distribution imports is what it declares, and the locks hold what is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from a2v_experiments.basics.errors import TRAINING_LIBRARIES
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECTS = {"a2v-model": "packages/a2v-model", "a2v-data": "packages/a2v-data", "a2v-eval": "packages/a2v-eval"}
SOURCES = {**{name: f"{folder}/src" for name, folder in PROJECTS.items()}, "a2v": "experiments"}
TOOLS = {
    "ruff",
    "mypy",
    "types-pyyaml",
    "import-linter",
    "hatchling",
    "editables",
    "ipykernel",
}  # called, never imported
WITH_TORCH = {"triton"}  # what torch brings on Linux; what imports it does without elsewhere
LOCKS = ("requirements.lock", "requirements-light.lock")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: Iterable[str]) -> set[str]:
    return {normal(Requirement(one).name) for one in requirements}


def project(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / PROJECTS.get(name, ".") / "pyproject.toml").read_text())


def imported(paths: Iterable[Path]) -> set[str]:
    """Top-level modules that files import anywhere, but for the standard library."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names) - WITH_TORCH


@cache
def owners() -> dict[str, set[str]]:
    """Module -> distributions that bring it. Ours are named, since a checkout need not be installed."""
    found = {module: {normal(name) for name in brought} for module, brought in packages_distributions().items()}
    ours = {"a2v_model": "a2v-model", "a2v_data": "a2v-data", "a2v_eval": "a2v-eval"}
    ours |= {"a2v_experiments": "a2v", "a2v": "a2v"}
    return found | {module: {name} for module, name in ours.items()}


def compare(modules: set[str], declared: set[str]) -> tuple[list[str], list[str]]:
    """Modules that nothing declared brings, and what is declared and brings none of the modules."""
    brought_by = owners()
    undeclared = [module for module in sorted(modules) if not brought_by.get(module, set()) & declared]
    needed = {name for module in modules for name in brought_by.get(module, set())}
    return undeclared, sorted(declared - needed)


@pytest.mark.parametrize("name", SOURCES)
def test_a_distribution_declares_what_it_imports_and_nothing_else(name: str) -> None:
    told = project(name)["project"]
    extras = told.get("optional-dependencies", {})
    declared = names([*told["dependencies"], *extras.get("train", [])])
    folder = ROOT / SOURCES[name]
    own = {path.name for path in folder.iterdir()}
    assert compare(imported(folder.rglob("*.py")) - own, declared) == ([], [])


def test_mistakes_would_be_found() -> None:
    assert compare({"tqdm", "mlflow", "yaml"}, {"tqdm", "mlflow", "rich"}) == (["yaml"], ["rich"])


def test_training_and_the_server_are_extras() -> None:
    told = project("a2v")["project"]
    base, extras = names(told["dependencies"]), told["optional-dependencies"]
    assert set(extras) == {"train", "server"}
    assert names(extras["train"]) == TRAINING_LIBRARIES  # these are called as the distributions that bring them
    assert not base & (names(extras["train"]) | names(extras["server"]))
    serve = ROOT / "infra" / "mlflow" / "serve"
    assert '"-m", "mlflow", "server"' in serve.read_text()
    assert compare(imported([serve]) | {"mlflow"}, names(extras["server"])) == ([], [])


def test_what_tests_import_is_declared() -> None:
    """Beside what is tested: the group `dev`. Scripts that made goldens say themselves what they needed."""
    folder = ROOT / "tests"
    files = [path for path in folder.rglob("*.py") if "goldens" not in path.parts]
    helpers = {path.stem for path in files}
    parts = [project(name)["project"] for name in SOURCES]
    tested = names(one for part in parts for one in part["dependencies"])
    tested |= names(project("a2v")["project"]["optional-dependencies"]["train"]) | {"a2v"}
    dev = names(project("a2v")["dependency-groups"]["dev"])
    modules = imported(files) - helpers
    assert compare(modules, tested | dev)[0] == []
    assert set(compare(modules, dev)[1]) == TOOLS


def pins(lock: str) -> dict[str, str]:
    """'name==version ; marker' -> its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / lock).read_text(), flags=re.MULTILINE)
    entries = re.findall(r"^([\w.-]+==[^\\\n]+?) \\\n((?:    --hash.*\n)+)", text, re.MULTILINE)
    return dict(entries)


def test_the_light_lock_is_a_part_of_the_other() -> None:
    whole, light = (pins(name) for name in LOCKS)
    assert light.items() <= whole.items(), "make requirements-light.lock anew: its first lines say how"
    missing = {normal(pin.partition("==")[0]) for pin in whole.keys() - light.keys()}
    told = project("a2v")["project"]
    extras = names([*told["optional-dependencies"]["train"], *told["optional-dependencies"]["server"]])
    assert extras <= missing
    ours = set(SOURCES)
    parts = names(one for name in SOURCES for one in project(name)["project"]["dependencies"]) - ours
    assert parts <= {normal(pin.partition("==")[0]) for pin in light}
    dev = names(project("a2v")["dependency-groups"]["dev"])
    assert dev <= {normal(pin.partition("==")[0]) for pin in whole}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text and "--index" not in text.replace("--no-emit-index-url", "")
    extras = "--extra train --extra server --group dev" if lock == "requirements.lock" else "-c requirements.lock"
    assert extras in text.splitlines()[1].replace("--constraints", "-c")
