"""Fingerprints know the code: that which decides a stage's result, and no other."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from a2v_experiments.basics.code_versions import pinned
from a2v_experiments.basics.source_code import PACKAGES, Closure, Sources, installed
from a2v_experiments.recipe.files import load_recipe
from a2v_experiments.stages import code
from a2v_experiments.stages.code import PARTS, digest, modules
from a2v_experiments.stages.pin import up_to_date
from a2v_experiments.stages.specs import data_spec, finetune_spec, folds_spec, pretrain_spec, refit_spec

ADVICE = """
code_versions.json is of other code or configurations than this.
- Results are the same as before: python -m a2v_experiments.stages.pin
- Results of a part differ:       python -m a2v_experiments.stages.pin --raise PART   and say so in CHANGELOG.md
A conflict in that file: take either side, and run the first."""

Edit = Callable[[str, str, str], None]


def test_versions_are_of_this_code():
    assert up_to_date() == pinned(), ADVICE


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(installed().folders[package], tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def marks_at(folder: Path) -> dict[str, str]:
    sources = Sources({package: folder / package for package in PACKAGES})
    return {part: digest(modules(part, sources)) for part in PARTS}


def changed_by(folder: Path, file: str, *edits: tuple[str, str]) -> set[str]:
    """The parts whose digest differs once every `before` in a file reads `after`."""
    path, before = folder / file, marks_at(folder)
    for old, new in edits:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
    after = marks_at(folder)
    return {part for part in PARTS if before[part] != after[part]}


def test_a_change_is_known_to_the_stages_that_compute_with_it(copied):
    losses = ("class FocalLoss", "def focal_loss")[1]
    assert changed_by(copied, "a2v_model/losses.py", (losses, "FACTOR = 3\n\n\n" + losses)) == set()  # unused so far
    assert changed_by(copied, "a2v_model/losses.py", ("    return ", "    return 3 * ")) == {"finetune"}
    assert changed_by(copied, "a2v_model/decoder.py", ("super().__init__()", "super().__init__(); self.x = 1")) == {
        "pretrain"
    }
    assert (
        {"evaluate", "validate", "cross", "refit"}
        >= changed_by(copied, "a2v_eval/matching.py", ("return ", "return 0 or "))
        >= {"evaluate", "validate"}
    )
    assert changed_by(copied, "a2v_data/stratification.py", ("return ", "return 0 or ")) == {
        "folds", "finetune", "validate", "cross",  # subsets of the labels, recordings to validate on
    }  # fmt: skip
    assert "prepare" in changed_by(copied, "a2v_data/resampling.py", ("return ", "return 0 or "))


def test_text_for_people_and_types_are_no_code(copied):
    path = "a2v_model/losses.py"
    text = (copied / path).read_text(encoding="utf-8")
    assert '"""' in text and " -> Tensor:" in text
    edits = (
        (text.split("\n")[0], '"""Other words.'),
        ("eq. 5", "so"),
        (" -> Tensor:", ":  # a comment"),
        ("\n\n\n", "\n\n\n\n"),
    )
    assert changed_by(copied, path, *edits) == set()


def test_what_is_around_is_no_code_of_a_stage(copied):
    around = ("a2v_experiments/store/tracking.py", "a2v_experiments/basics/progress.py", "a2v_eval/figures_scores.py")
    for file in around:
        assert changed_by(copied, file, ("return ", "return 0 or ")) == set()
    added = ("class FinetuneConfig(Config):", "class FinetuneConfig(Config):\n    new: int = 7\n")
    assert changed_by(copied, "a2v_model/config.py", added) == set()  # the fingerprint has its value


def fingerprints(source: Path) -> dict[str, tuple[str, str | None]]:
    recipe = load_recipe("few_calls", [f"data.source={source}", "folds.validation=null"])
    data = data_spec(recipe.data, "recordings")
    folds = folds_spec(recipe, data.fingerprint)
    tuned = finetune_spec(recipe.at_share(1.0), 0, 1.0, data.fingerprint, folds.fingerprint, None)
    refit = refit_spec(recipe.for_refit(), [tuned.fingerprint], data.fingerprint, None)
    found = [data, folds, pretrain_spec(load_recipe("quickstart"), "audio"), tuned, refit]
    return {one.stage: (str(one.fingerprint), one.training and str(one.training)) for one in found}


def test_fingerprints_and_identities(copied, csv_source, monkeypatch):
    def marks_of(folder: Path) -> Callable[[object], list[str]]:
        sources = Sources({package: folder / package for package in PACKAGES})
        return lambda parts: [code.mark(part, digest(modules(part, sources))) for part in parts]

    before = fingerprints(csv_source)
    path = copied / "a2v_eval" / "matching.py"
    path.write_text(path.read_text(encoding="utf-8").replace("return ", "return 0 or "), encoding="utf-8")
    monkeypatch.setattr("a2v_experiments.stages.specs.marks", marks_of(copied))
    scored = fingerprints(csv_source)
    assert {stage for stage in before if before[stage][0] != scored[stage][0]} == {"finetune", "refit"}
    assert [before[stage][1] for stage in before] == [scored[stage][1] for stage in before]  # models are reused
    path = copied / "a2v_model" / "losses.py"
    path.write_text(path.read_text(encoding="utf-8").replace("return ", "return 3 * "), encoding="utf-8")
    monkeypatch.setattr("a2v_experiments.stages.specs.marks", marks_of(copied))
    trained = fingerprints(csv_source)
    assert {stage for stage in before if before[stage][1] != trained[stage][1]} == {"finetune", "refit"}
    assert {stage for stage in before if before[stage][0] == trained[stage][0]} == {"prepare", "folds", "pretrain"}
    data = data_spec(load_recipe("quickstart").data, "recordings").fingerprint
    assert data.identity != data
    monkeypatch.setattr("a2v_experiments.stages.specs.marks", lambda parts: ["other"])
    other = data_spec(load_recipe("quickstart").data, "recordings").fingerprint
    assert other != data and other.identity == data.identity


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Writes modules of a package `p` and gives the digests of p.a:main."""

    def of(**files: str) -> dict[str, str]:
        folder = tmp_path / "p"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, text in {"__init__": "", **files}.items():
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
        return Sources({"p": folder}).digests(Closure(("p.a:main",)))

    return of


def test_definitions_are_followed_wherever_they_are_imported(tiny):
    a = "from p import f\ndef main():\n    from . import c\n    return f() + c.g()\n"
    files = {
        "a": a,
        "b": "def f():\n    return 1\ndef other():\n    return 2\n",
        "c": "K = 1\ndef g():\n    return K\n",
    }
    start = tiny(__init__="from p.b import f", **files)
    assert set(start) == {"p.a", "p.b", "p.c"}
    for name, old, new in (("b", "return 1", "return 5"), ("c", "K = 1", "K = 2")):
        after = tiny(__init__="from p.b import f", **{**files, name: files[name].replace(old, new)})
        assert {module for module in start if start[module] != after[module]} == {f"p.{name}"}
    assert tiny(__init__="from p.b import f", **{**files, "b": files["b"].replace("return 2", "return 5")}) == start
    assert tiny(__init__="from p.b import other as f", **files) != start


def test_imports_of_other_packages_and_statements_that_act_count(tiny):
    start = tiny(a="from numpy import mean as f\ndef main(x):\n    return f(x)\n")
    assert tiny(a="from numpy import median as f\ndef main(x):\n    return f(x)\n") != start
    assert tiny(a="from numpy import mean as f\nimport warnings\ndef main(x):\n    return f(x)\n") == start
    acting = "from numpy import mean as f\nprint(1)\ndef main(x):\n    return f(x)\n"
    assert tiny(a=acting) != start != tiny(a=acting.replace("1", "2")) != tiny(a=acting)
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import T\n"
    assert set(tiny(a=typed + "def main(x: T):\n    return x\n", b="class T: pass\n")) == {"p.a"}
    table = "TABLE = {}\ndef known(f):\n    TABLE[f.__name__] = f\n    return f\n@known\ndef one():\n    return 1\n"
    main = "from .b import TABLE\ndef main(x):\n    return TABLE[x]()\n"
    assert tiny(a=main, b=table) != tiny(a=main, b=table.replace("return 1", "return 2"))


def test_it_is_quick():
    begun = time.process_time()
    sources = Sources(installed().folders)
    for part in PARTS:
        modules(part, sources)
    assert time.process_time() - begun < 2.0  # .4 s on one core of 2026; a margin for busy machines


def test_an_entry_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match=r"a2v_model\.losses:gone: no such code"):
        installed().digests(Closure(("a2v_model.losses:gone",)))
