"""Documents that people write or download: recipes, class mappings, thresholds, answers of xeno-canto."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile
import yaml
from a2v_experiments.recipe.files import BUNDLED
from fuzz_models import RATE, predict, ready_model, ready_recording
from fuzz_mutate import damage_text, damage_tree, vary_tree
from fuzz_run import Case, Family

LAUGHS = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
VALUES = (  # what YAML has for a value
    "!!python/object/apply:os.system ['touch here']", "!!python/name:os.system", "!!binary aGVsbG8=", "!!timestamp x",
    "!!int x", "!!float '.'", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!unknown 1", "2026-01-01",
    "9999-99-99", "1" + "0" * 5000, "0x" + "f" * 100_000, "190:20:30:40:50:60", "&z [*z]", "&z {y: *z}", "&z {<<: *z}",
    "*nobody", "[" * 3000, "[" * 3000 + "]" * 3000, "{a: " * 3000 + "}" * 3000, "[" * 100_000, "'x", "|\n  x\n y",
    "? [a]\n", "{[a]: 1}", "{{a: 1}: 1}", "{a: 1, a: 2}", "<<", "{<<: [1]}", "%TAG", "---\n...", "\t",
    "[" + "1," * 300_000 + "]",
)  # fmt: skip


def flow(tree: Any) -> str:
    """A tree as YAML, and as JSON where it has finite numbers only, however deep."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(50_000)
    try:
        return _flow(tree)
    finally:
        sys.setrecursionlimit(limit)


def _flow(tree: Any) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_flow(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list | tuple):
        return "[" + ", ".join(map(_flow, tree)) + "]"
    if isinstance(tree, float) and not math.isfinite(tree):
        return "." + str(tree).replace("-", "")
    return json.dumps(tree)


def nested_lines(depth: int) -> str:
    return "".join(f"{' ' * level}a:\n" for level in range(depth))


def damage_yaml(rng: Random, text: str) -> tuple[str, bytes]:
    """(what was done, the bytes) of a YAML file: of its values, its text, or as only YAML can be damaged."""
    kind = rng.choice(("tree", "tree", "text", "value", "value", "whole"))
    if kind == "text":
        return damage_text(rng, text, ": ")
    if kind == "tree":
        what, tree = damage_tree(rng, yaml.safe_load(text))
        return what, flow(tree).encode()
    tree = yaml.safe_load(text)
    key = rng.choice(sorted(tree))
    if kind == "value":
        value = rng.choice(VALUES)
        rest = {name: one for name, one in tree.items() if name != key}
        return f"{key}: {value[:40]}", (yaml.safe_dump(rest) + f"{key}: {value}\n").encode()
    of_it = yaml.safe_dump({name: one for name, one in tree.items() if name != key})
    wholes: dict[str, Callable[[], str]] = {
        "aliases": lambda: LAUGHS + of_it + f"{key}: *i\n",
        "merged aliases": lambda: of_it + "x0: &x0 {lol: 1}\n" + "".join(
            f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 20)}], k{n}: *x{n - 1}}}\n" for n in range(1, 9)
        ) + f"{key}: *x8\n",
        "aliases below": lambda: of_it + f"{key}:\n" + "".join(f"  {line}\n" for line in LAUGHS.splitlines()),
        "deep lines": lambda: of_it + nested_lines(1500),
        "many keys": lambda: of_it + "".join(f"k{n}: {n}\n" for n in range(30_000)),
        "many documents": lambda: text + "---\n" * 2000,
        "long": lambda: of_it + f"{key}: " + "x" * 5_000_000,
        "twice": lambda: text + text,
    }  # fmt: skip
    name = rng.choice(sorted(wholes))
    return f"{name} ({key})", wholes[name]().encode()


def damage_json(rng: Random, tree: Any) -> tuple[str, bytes]:
    kind = rng.choice(("tree", "tree", "tree", "text", "whole"))
    if kind == "text":
        return damage_text(rng, json.dumps(tree, indent=1), ": ")
    if kind == "tree":
        what, tree = damage_tree(rng, tree)
        return what, flow(tree).replace(": .inf", ": Infinity").replace(": .nan", ": NaN").encode()
    what, text = rng.choice((
        ("deep", "[" * 100_000), ("deep object", '{"a":' * 3000 + "1" + "}" * 3000), ("digits", "1" * 5000),
        ("digits in it", '{"recordings": [{"id": ' + "1" * 5000 + "}]}"), ("empty", ""), ("a number", "1"),
        ("text", '"x"'), ("surrogate", '{"id": "\\ud800", "recordings": ["\\udfff"]}'), ("two", "{}{}"),
        ("nan", "NaN"), ("long", json.dumps(["x" * 1000] * 5000)), ("deep list", "[" * 900 + "]" * 900),
    ))  # fmt: skip
    return what, text.encode()


# --- recipes

RECIPES = ("quickstart", "ablation")


def _recipe(rng: Random, ready: Path, folder: Path) -> Case:
    name = rng.choice(RECIPES)
    if rng.random() < 0.4:
        name = "quickstart"  # makes its recordings itself, so that there is a plan
        what, tree = vary_tree(rng, yaml.safe_load((BUNDLED / "quickstart.yaml").read_text(encoding="utf-8")))
        data = flow(tree).encode()
    else:
        what, data = damage_yaml(rng, (BUNDLED / f"{name}.yaml").read_text(encoding="utf-8"))
    (folder / "mine.yaml").write_bytes(data)
    argv = ("experiment", "plan", "mine.yaml", "--no-measure", "--work", "out/work")
    if rng.random() < 0.15:
        value = rng.choice((*VALUES[:24], "[" * 3000, "x" * 50_000))
        key = rng.choice(
            ("name", "model", "data.sample_rate", "folds", "model.encoder.dim", "a.b.c", "plugins", "sweep")
        )
        what, argv = f"--set {key}={value[:40]}", (*argv[:2], name, *argv[3:], "--set", f"{key}={value}")
    return Case(f"{name}: {what}", argv)


# --- class mappings


def _ready_mapping(folder: Path) -> None:
    recordings = folder / "recordings"
    recordings.mkdir()
    ready_recording(recordings / "a.wav")
    rows = "".join(f"a.wav,{n / 10},{n / 10 + 0.05},c{n}\n" for n in range(8))
    (recordings / "annotations.csv").write_text(f"file,onset_s,offset_s,label\n{rows}")


def _mapping(rng: Random, ready: Path, folder: Path) -> Case:
    classes = {"c0": "x", "c1": "x", "c2": "", "c[3-5]": "y", "c*": "z"}
    if rng.random() < 0.6:
        name = "map.yaml"
        what, data = damage_yaml(rng, "".join(f"{key}: {value or '~'}\n" for key, value in classes.items()))
    else:
        name = "map.csv"
        what, data = damage_text(rng, "label,class\n" + "".join(f"{k},{v}\n" for k, v in classes.items()), ",")
    (folder / name).write_bytes(data)
    command = rng.choice((("data", "check"), ("data", "stats"), ("data", "annotations")))
    return Case(f"{name}: {what}", (*command, str(ready / "recordings"), "--mapping", name))


# --- thresholds


def _thresholds(rng: Random, ready: Path, folder: Path) -> Case:
    values = {"cc": 0.45, "sn": 0.55}
    suffix = rng.choice(("json", "yaml", "csv"))
    if suffix == "json":
        what, data = damage_json(rng, rng.choice((values, {"thresholds": values})))
    elif suffix == "yaml":
        what, data = damage_yaml(rng, yaml.safe_dump(rng.choice((values, {"thresholds": values}))))
    else:
        what, data = damage_text(rng, "class,threshold\ncc,0.45\nsn,0.55\n", ",")
    (folder / f"t.{suffix}").write_bytes(data)
    return Case(f"{suffix}: {what}", (*predict(ready), "--thresholds", f"t.{suffix}"))


# --- answers of xeno-canto


def _ready_xeno_canto(folder: Path) -> None:
    for number in (100001, 100002):
        noise_N = np.random.default_rng(number).normal(0, 0.1, RATE // 4)
        soundfile.write(folder / f"XC{number}.flac", noise_N, RATE)


def _entry(number: int) -> dict[str, Any]:
    return {
        "id": str(number), "gen": "Troglodytes", "sp": "troglodytes", "en": "Wren",
        "rec": "A. Recordist", "cnt": "France",
        "loc": "Albussac", "type": "song", "q": "A", "length": "0:42", "url": f"//xeno-canto.org/{number}",
        "lic": "//creativecommons.org/licenses/by-nc-sa/4.0/", "file-name": f"XC{number}.flac",
        "also": ["Turdus merula", "Parus major"], "rmk": "two\nlines",
    }  # fmt: skip


def _xeno_canto(rng: Random, ready: Path, folder: Path) -> Case:
    shutil.copytree(ready, folder / "xc")
    answer = {"numRecordings": "2", "numPages": 1, "page": 1, "recordings": [_entry(100001), _entry(100002)]}
    what, data = damage_json(rng, rng.choice((answer, [answer], answer["recordings"], _entry(100001))))
    (folder / "xc" / "page1.json").write_bytes(data)
    more = rng.choice(((), ("--quality", "A"), ("--no-nd",), ("--json",)))
    return Case(what, ("data", "import", "xeno-canto", "xc", "--out", "out/imported", *more))


RECIPE = Family("recipe", _recipe)
MAPPING = Family("mapping", _mapping, _ready_mapping)
THRESHOLDS = Family("thresholds", _thresholds, ready_model)
XENO_CANTO = Family("xeno_canto", _xeno_canto, _ready_xeno_canto)
