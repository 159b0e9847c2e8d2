"""The command's surface: its names are part of the interface, so a change of them has to be meant."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
import typer
from a2v_experiments import cli
from a2v_experiments.basics.errors import UserError

# command -> its arguments and options; change it together with README when the surface is meant to change
READING = [
    "--tables", "--format", "--label-column", "--tier", "--strip-numbers", "--mapping", "--unmapped", "--default-label",
    "--point-duration", "--outside", "--encoding", "--weak-labels", "--regions", "--region-label", "--file-column",
    "--onset-column", "--offset-column", "--duration-column", "--time-unit",
]  # fmt: skip
ONE_TABLE = [option for option in READING if option not in ("--tables", "--weak-labels")]
OF_LABELS = ("--regions", "--region-label")
PREDICTIONS = [f"--predictions-{option.removeprefix('--')}" for option in ONE_TABLE if option not in OF_LABELS]
REUSE = ["--trust-code", "--force"]
EXPERIMENT = {
    "experiment run": [
        "recipe", "--set", "--scale", "--work", "--tracking-uri", *REUSE, "--register", "--allow-plugins",
    ],
    "experiment rerun": ["run_id", "--work", "--tracking-uri", "--to", "--allow-plugins"],
    "experiment suggest": ["folder", "--minutes", "--out", "--json", *READING],
    "experiment submit": [
        "recipe", "--address", "--set", "--scale", "--work", "--tracking-uri", *REUSE, "--env", "--requirements",
        "--register", "--wait", "--job-id",
    ],
    "experiment attach": ["job_id", "--address"],
    "experiment stop": ["job_id", "--address"],
    "experiment plan": [
        "recipe", "--set", "--scale", "--measure", "--measured", "--step-s", "--work", "--tracking-uri", *REUSE,
        "--allow-plugins", "--json",
    ],
    "experiment list": ["--work", "--tracking-uri", "--json"],
    "experiment compare": ["names", "--metric", "--baseline", "--figure", "--work", "--tracking-uri", "--json"],
    "ui": ["--work", "--tracking-uri", "--host", "--port"],
}  # fmt: skip
DATA = {
    "data synth": ["out", "--minutes", "--seed", "--accelerometer"],
    "data prepare": [
        "source", "--out", "--sample-rate", "--segment-s", "--labelled", "--channel", "--channels", "--random-names",
        "--seed", "--processes", "--ray", "--address", *READING, "--json",
    ],
    "data pack": [
        "source", "--out", "--sample-rate", "--labelled", "--channel", "--channels", "--classes", "--exclude-label",
        "--focal-class", "--keep-rates", "--processes", *READING, "--json",
    ],
    "data verify": ["store", "--json"],
    "data check": [
        "root", "--json", "--jobs", "--rows", "--manifests", "--sample-rate", "--segment-s", "--classes", "--published",
        "--labelled", *READING,
    ],
    "data folds": [
        "corpus", "--out", "--folds", "--scheme", "--evaluation-share", "--shares", "--holdout", "--group",
        "--group-table", "--group-column", "--seed", "--labelled", "--json", *READING,
    ],
    "data stats": ["corpus", "--folds", "--png", "--not-vocal", "--labelled", "--json", *READING],
    "data preview": ["file", "--start", "--end", "--annotations", "--recording", "--channel", "--out", *ONE_TABLE],
    "data annotations": [
        "source", *READING, "--channel", "--channels", "--sample-rate", "--write-mapping", "--out", "--json",
    ],
    "data import nips4bplus": ["archives", "--out", "--keep-unknown", "--challenge-test", "--json"],
    "data import xeno-canto": ["folder", "--out", "--quality", "--nd", "--exclude", "--link", "--json"],
}  # fmt: skip
BENCH = {
    "bench train": [
        "--preset", "--stage", "--segments", "--segment-s", "--precision", "--steps", "--compile",
        "--gradient-checkpointing", "--bcl", "--profile", "--compare", "--json",
    ],
    "bench eval": ["--segments", "--classes", "--frames", "--block", "--method", "--seed", "--json"],
    "bench predict": [
        "--preset", "--precision", "--minutes", "--recordings", "--sample-rate", "--processes", "--compare", "--json",
    ],
    "bench detect": [
        "folder", "--cpu-seconds", "--recipe", "--preset", "--peer", "--seeds", "--share", "--seed",
        "--pretrain-updates", "--pretrain-share", "--backbone", "--figure", "--set", "--peer-set", "--work",
        "--tracking-uri", "--json",
    ],
    "bench review": [
        "folder", "--out", "--recipe", "--rounds", "--seeds", "--first", "--clips", "--clip-s", "--updates", "--fresh",
        "--arm", "--set", "--json",
    ],
    "bench data": ["store", "--segment-s", "--segments", "--processes", "--seconds", "--json"],
}  # fmt: skip
MODEL = {
    "model import": ["file", "--out", "--ignore"],
    "model fetch": ["name", "--file", "--from", "--work"],
    "model info": ["model", "--json", "--tracking-uri"],
    "model export": ["model", "out", "--tracking-uri", "--allow-plugins"],
    "model push": ["model", "folder", "--licence", "--tracking-uri"],
    "model promote": ["name", "--version", "--metric", "--force", "--work", "--tracking-uri"],
}
EXPLAIN = {
    "explain filters": [
        "--model", "--out", "--audio", "--minutes", "--channel", "--npz", "--tracking-uri", "--allow-plugins",
    ],
    "explain attention": [
        "file", "--model", "--start", "--end", "--out", "--layer", "--head", "--annotations", "--threshold",
        "--channel", "--npz", "--tracking-uri", "--allow-plugins", *ONE_TABLE,
    ],
    "explain masks": [
        "recipe", "--stage", "--mask-probability", "--mask-length", "--frames", "--rows", "--draws", "--set", "--out",
        "--npz", "--json",
    ],
}  # fmt: skip
EVALUATE = {
    "evaluate": [
        "predictions", "labels", "--protocol", "--iou", "--threshold", "--channel", "--any-class", "--recordings",
        "--durations", "--bootstrap", "--json", "--out", *ONE_TABLE, *PREDICTIONS,
    ],
}  # fmt: skip
PREDICT = {
    "predict": [
        "recordings", "--model", "--out", "--format", "--likelihoods", "--embeddings", "--thresholds", "--threshold",
        "--classes", "--all-classes", "--min-duration", "--max-duration", "--merge-gap", "--method", "--window-s",
        "--peak-share", "--segment-s", "--overlap-s", "--channel", "--streams", "--device", "--precision", "--batch",
        "--processes", "--ray", "--address", "--figures", "--report", "--tracking-uri", "--allow-plugins", "--json",
    ],
}  # fmt: skip
ADAPT = {
    "adapt": [
        "folder", "--model", "--out", "--minutes", "--head", "--unfreeze-updates", "--labelled", "--work",
        "--tracking-uri", "--allow-plugins", "--json", *READING,
    ],
}  # fmt: skip
SEARCH = {
    "search": [
        "clip", "--in", "--recordings", "--start", "--end", "--top", "--model", "--out", "--label", "--processes",
        "--tracking-uri", "--allow-plugins", "--json",
    ],
}  # fmt: skip
REVIEW = {
    "review page": [
        "calls", "--recordings", "--order", "--per-band", "--windows", "--window-s", "--class", "--suggest", "--model",
        "--slow", "--reviewer", "--port", "--no-browser", "--tracking-uri", "--allow-plugins",
    ],
    "review report": [
        "calls", "--recordings", "--precision", "--sure", "--window-s", "--out", "--model", "--model-out", "--track",
        "--work", "--tracking-uri", "--allow-plugins", "--json",
    ],
    "review export": [
        "calls", "--out", "--recordings", "--format", "--with", "--json",
        *(f"--with-{name.removeprefix('--')}" for name in READING if name != "--weak-labels"),
    ],
}  # fmt: skip
SURFACE = REVIEW | EXPERIMENT | DATA | BENCH | MODEL | EXPLAIN | EVALUATE | PREDICT | ADAPT | SEARCH


def surface() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}

    def walk(command: object, path: tuple[str, ...]) -> None:
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*path, name))
        if not hasattr(command, "commands"):
            found[" ".join(path)] = [p.opts[0] for p in command.params if p.name != "help"]

    walk(typer.main.get_command(cli.app), ())
    return found


def test_commands_and_options_are_those_written_down_here():
    assert surface() == SURFACE


def test_every_command_helps_and_names_all_its_options(a2v):
    groups = sorted({name.rsplit(" ", 1)[0] for name in SURFACE if " " in name})
    said = a2v("--help")
    assert said.code == 0 and all(name.split()[0] in said.out for name in SURFACE)
    for group in groups:
        said = a2v(*group.split(), "--help")
        inside = [name.removeprefix(f"{group} ").split()[0] for name in SURFACE if name.startswith(f"{group} ")]
        assert said.code == 0 and all(name in said.out for name in inside)
    for name, options in SURFACE.items():
        said = a2v(*name.split(), "--help")
        assert said.code == 0 and said.err == "" and all(option in said.out.lower() for option in options), name


def test_help_needs_none_of_the_heavy_packages():
    code = """
import sys, a2v_experiments.cli as cli
sys.argv = ["a2v", "experiment", "run", "--help"]
try:
    cli.main()
except SystemExit as stop:
    heavy = ("torch", "ray", "mlflow", "numpy", "pandas", "matplotlib", "a2v_model", "a2v_data", "a2v_eval")
    print(stop.code, [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] in ("None []", "0 []") and done.stderr == ""


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["experiment", "run"], "Missing argument"),
        (["experiment", "run", "many_calls", "--bogus"], "No such option"),
        (["experiment", "run", "many_calls", "--scale", "huge"], "'--scale'"),
        (["experiment", "rnu"], "No such command"),
        (["ui", "--port", "http"], "'--port'"),
        (["ui", "--port", "0"], "'--port'"),
        (["data", "synth", "somewhere", "--minutes", "0"], "'--minutes'"),
        (["model", "import", "file.pt"], "'--out'"),
        (["model", "fetch", "meerkat"], "'meerkat' is not one of 'meerkat-pretrained', 'meerkat-finetuned'"),
        (["data", "annotations", "somewhere", "--format", "rave"], "'--format'"),
        (["data", "annotations", "somewhere", "--encoding", "utf-9"], "--encoding: no text encoding 'utf-9'"),
        (["data", "annotations", "somewhere", "--point-duration", "0"], "--point-duration: Input should be greater"),
        (["data", "annotations", "nowhere"], "nowhere: no such folder"),
        (["data", "import", "nips4bplus", "--out", "x"], "Missing argument"),
        (["data", "import", "nips4bplus", "nowhere.zip", "--out", "x"], "nowhere.zip: no such archive or folder"),
        (["data", "import", "xeno-canto", "nowhere"], "--out"),
        (["data", "import", "xeno-canto", "nowhere", "--out", "x"], "nowhere: no such folder"),
        (["predict", "x.wav", "--model", "m"], "'--out'"),
        (["predict", "x.wav", "--model", "m", "--out", "o", "--format", "textgrid"], "'--format'"),
        (["predict", "x.wav", "--model", "m", "--out", "o", "--channel", "left"], "--channel: 'left' must be a number"),
        (["predict", "x.wav", "--model", "m", "--out", "o", "--address", "h:1"], "give --ray as well"),
        (["predict", "x.wav", "--model", "m", "--out", "o", "--threshold", "cc=high"], "--threshold cc=high: 'high'"),
        (["predict", "nowhere", "--model", "m", "--out", "o"], "nowhere: no such file or folder"),
        (["search", "x.wav@1-2"], "'--in'"),
        (["search", "x.wav@1-2", "--in", "nowhere"], "nowhere: no such file or folder"),
        (["review", "calls", "--order", "best"], "'--order'"),
        (["review", "calls", "--port", "x"], "'--port'"),
        (["review", "nowhere"], "nowhere: no such"),
        (["evaluate", "predictions.csv"], "Missing argument"),
        (["evaluate", "a.csv", "b.csv", "--iou", "1"], "'--iou'"),
        (["evaluate", "a.csv", "b.csv", "--protocol", "loose"], "'--protocol'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(a2v, arguments, told):
    said = a2v(*arguments)
    assert said.code == 2 and said.out == "" and told in said.only_line()


@pytest.mark.parametrize(
    "arguments", [[], ["experiment"], ["data"], ["data", "import"], ["model"], ["explain"], ["bench"], ["review"]]
)
def test_a_group_alone_shows_its_help(a2v, arguments):
    said = a2v(*arguments)
    assert said.code == 2 and "Usage: " in said.err and "Commands:" in said.err
    assert not any(line.startswith("a2v: ") for line in said.err.splitlines())  # help, not a complaint


@pytest.mark.parametrize(
    "error, code, line",
    [
        (UserError("recipe.yaml: wrong"), 2, "recipe.yaml: wrong"),
        (UserError("the server is away", code=1), 1, "the server is away"),
        (ValueError("out: exists already"), 2, "out: exists already"),
        (OSError(28, "No space left on device", "/disk"), 1, "/disk: no space left on the disk; free some"),
        (PermissionError(13, "Permission denied", "/disk"), 1, "/disk: Permission denied"),
        (OSError(27, "File too large", "/disk"), 1, "/disk: no space left on the disk; free some"),
        (KeyboardInterrupt(), 130, "stopped; nothing was written to "),
        (click.UsageError("bad"), 2, "bad"),
    ],
)  # fmt: skip
def test_errors_of_users_and_machines_are_one_line(a2v, monkeypatch, tmp_path, error, code, line):
    def fail(*arguments: object, **named: object) -> None:
        raise error

    monkeypatch.setattr("a2v_data.synth.synthesise", fail)
    said = a2v("data", "synth", tmp_path / "out")
    assert said.code == code and said.only_line().startswith(line)


def test_a_fault_of_the_program_keeps_its_traceback(a2v, monkeypatch, tmp_path):
    def fail(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("a2v_data.synth.synthesise", fail)
    with pytest.raises(ZeroDivisionError):
        a2v("data", "synth", tmp_path / "out")


def test_ui_without_a_store_says_where_it_looked(a2v, tmp_path):
    said = a2v("ui", "--work", tmp_path / "nowhere")
    assert said.code == 2
    assert (
        said.only_line()
        == f"{tmp_path / 'nowhere'}: no tracking store here; run a recipe first, or name the folder with --work"
    )
