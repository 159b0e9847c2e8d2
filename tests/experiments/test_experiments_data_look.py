"""`a2v data check`, `folds`, `stats` and `preview`: what a user sees, the files, the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from a2v_data.corpus import Corpus
from a2v_data.folds import label_share, make_folds
from a2v_data.manifests import parse_manifest, read_manifests
from a2v_data.synth import synthesise
from a2v_experiments.basics.tables import text_table


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four minutes in MeerKAT's layout."""
    return synthesise(tmp_path_factory.mktemp("look") / "s", 4, 0)


@pytest.fixture
def damaged(synthetic: Path, tmp_path: Path) -> Path:
    """The same with one recording cut and one label file of text; the other files are links."""
    for folder in ("wav", "lbl", "manifest"):
        (tmp_path / "d" / folder).mkdir(parents=True)
        for path in (synthetic / folder).iterdir():
            (tmp_path / "d" / folder / path.name).symlink_to(path)
    for name, content in (("wav/r0001_s0.wav", b"RIFF"), ("lbl/r0002_s0.h5", b"none")):
        (tmp_path / "d" / name).unlink()
        (tmp_path / "d" / name).write_bytes(content)
    return tmp_path / "d"


def test_check_takes_rate_length_and_classes_from_a_prepared_folder(a2v, csv_source, tmp_path):
    assert a2v("data", "prepare", csv_source, "--out", tmp_path / "seg", "--segment-s", "1").code == 0
    said = a2v("data", "check", tmp_path / "seg")
    assert said.code == 0 and "no problems" in said.out, said.out
    said = a2v("data", "check", tmp_path / "seg", "--classes", "other")
    assert said.code == 1 and "is no class (other)" in said.out


def test_check_a_whole_corpus(a2v, synthetic):
    said = a2v("data", "check", synthetic)
    rule, summary = said.out.splitlines()
    assert said.code == 0 and summary.startswith("24 recordings, 0.07 h; labelled 24, 0.07 h, ")
    assert rule == "24 of 24 segments labelled: those with a label file (labelled: annotated)"
    assert summary.endswith("no problems")
    said = a2v("data", "check", synthetic, "--json")
    found = json.loads(said.out)
    assert said.code == 0 and found["recordings"] == 24 and found["problems"] == []


def test_check_goes_on_past_bad_files(a2v, damaged):
    said = a2v("data", "check", damaged)
    assert said.code == 1
    header, *rows = said.out.partition("\n\n")[0].splitlines()
    assert header.split() == ["kind", "file", "where", "what", "is", "wrong"]
    assert [row.split()[:2] for row in rows] == [["recording", "wav/r0001_s0.wav"], ["labels", "lbl/r0002_s0.h5"]]
    assert said.out.splitlines()[-1].endswith("2 problems in 2 files: recording 1, labels 1")
    found = json.loads(a2v("data", "check", damaged, "--json").out)
    assert [(one["kind"], one["file"]) for one in found["problems"]] == [
        ("recording", "wav/r0001_s0.wav"),
        ("labels", "lbl/r0002_s0.h5"),
    ]


def test_check_shows_some_problems_of_each_kind(a2v, damaged):
    (damaged / "manifest" / "train_0.tsv").write_text("/data\n" + "".join(f"gone{n}.wav\t80000\n" for n in range(9)))
    said = a2v("data", "check", damaged, "--rows", 2)
    assert said.code == 1 and said.out.count("missing file  manifest") == 2 and "lbl/r0002_s0.h5" in said.out
    assert "... and 7 more; --rows 0 or --json shows all" in said.out
    assert a2v("data", "check", damaged, "--rows", 0).out.count("missing file  manifest") == 9


def test_check_of_something_else(a2v, tmp_path):
    said = a2v("data", "check", tmp_path)
    assert said.code == 2 and said.lines()[-1].startswith(f"a2v: {tmp_path}: no folder wav/")


def test_folds_are_written_and_read_back(a2v, synthetic, tmp_path):
    out = tmp_path / "folds"
    said = a2v("data", "folds", synthetic, "--out", out, "--folds", 3, "--group", "^(r[0-9]+)_", "--seed", 4)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].split() == ["class", "events", "share", "fold", "0", "fold", "1", "fold", "2", "deviation"]
    assert "largest deviation" in said.out
    sizes = [
        tuple(len(parse_manifest(out / f"{part}_{fold}.tsv")[1]) for part in ("train", "valid")) for fold in range(3)
    ]
    assert f"evaluate on: {', '.join(f'{train}/{valid}' for train, valid in sizes)}" in lines[-1]
    for fold in range(3):
        train, valid = (
            {row.name[:5] for row in parse_manifest(out / f"{part}_{fold}.tsv")[1]} for part in ("train", "valid")
        )
        assert not train & valid
        assert len(parse_manifest(out / f"train_{fold}_25.tsv")[1]) == round(0.25 * sizes[fold][0])
    described = json.loads((out / "folds.json").read_text())
    assert described["seed"] == 4 and described["group"] == "^(r[0-9]+)_" and described["shares_percent"] == [1, 25]
    assert a2v("data", "check", synthetic, "--manifests", out).code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    said = a2v("data", "folds", synthetic, "--out", out)
    assert said.code == 2 and "exists already" in said.only_line()
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_folds_are_those_of_a_recipe(a2v, corpus: Corpus, tmp_path):
    """The same manifests from the command, for a packed corpus, as the stages of an experiment make."""
    said = a2v("data", "folds", corpus.folder, "--out", tmp_path / "f", "--folds", 3, "--shares", "50", "--json")
    assert said.code == 0 and json.loads(said.out)["out"] == str(tmp_path / "f")
    folds = make_folds(corpus, 3, 0)
    assert read_manifests(tmp_path / "f", corpus) == folds
    few = [label_share(fold, 0.5, 9) for fold in read_manifests(tmp_path / "f", corpus)]
    assert few == [label_share(fold, 0.5, 0) for fold in folds]


def test_folds_of_groups_in_a_table(a2v, synthetic, tmp_path):
    names = sorted(path.name for path in (synthetic / "wav").iterdir())
    table = tmp_path / "animals.csv"
    table.write_text("file,animal\n" + "".join(f"{name},{'AB'[n % 2]}{n % 3}\n" for n, name in enumerate(names)))
    arguments = ("data", "folds", synthetic, "--folds", 2, "--group-table", table)
    assert a2v(*arguments, "--group-column", "animal", "--out", tmp_path / "f").code == 0
    animal = {name: n % 6 for n, name in enumerate(names)}
    train, valid = (
        {animal[row.name] for row in parse_manifest(tmp_path / "f" / f"{part}_0.tsv")[1]} for part in ("train", "valid")
    )
    assert not train & valid and train | valid == set(range(6))
    said = a2v(*arguments, "--out", tmp_path / "g")
    assert said.code == 2 and "go together" in said.only_line() and not (tmp_path / "g").exists()


def test_a_hold_out(a2v, synthetic, tmp_path):
    said = a2v("data", "folds", synthetic, "--out", tmp_path / "h", "--holdout", "^r000[02]_", "--shares", "")
    assert said.code == 0
    assert {path.name for path in (tmp_path / "h").iterdir()} == {
        "train_0.tsv", "valid_0.tsv", "pretrain.tsv", "folds.json",
    }  # fmt: skip
    held = {row.name[:5] for row in parse_manifest(tmp_path / "h" / "valid_0.tsv")[1]}
    assert held == {"r0000", "r0002"}
    said = a2v("data", "folds", synthetic, "--out", tmp_path / "s", "--holdout", 0.25, "--group", "^(r[0-9]+)_")
    assert said.code == 0 and len({row.name[:5] for row in parse_manifest(tmp_path / "s" / "valid_0.tsv")[1]}) == 1


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--folds", "50"], "n_folds: 50, but the corpus has 24 labelled recordings; choose at most 24"),
        (["--shares", "1;25"], "--shares 1;25: must be percentages with commas"),
        (["--shares", "0,25"], "percentages must be above 0 and below 100"),
        (["--shares", "25,25"], "name each percentage once"),
        (["--holdout", "20"], "a share must be above 0 and below 1"),
        (["--holdout", "bird"], "'bird' is found in none of 24 groups"),
        (["--group", "r"], "must have exactly one group in parentheses"),
        (["--group", "(x)"], "does not match the recording r0000_s0.wav"),
    ],
)
def test_wrong_folds_are_one_line_and_write_nothing(a2v, synthetic, tmp_path, arguments, told):
    said = a2v("data", "folds", synthetic, "--out", tmp_path / "f", *arguments)
    assert said.code == 2 and told in said.only_line() and list(tmp_path.iterdir()) == []


def test_stats_say_what_is_there(a2v, synthetic, tmp_path):
    assert a2v("data", "folds", synthetic, "--out", tmp_path / "f", "--folds", 2).code == 0
    png = tmp_path / "stats.png"
    said = a2v("data", "stats", synthetic, "--folds", tmp_path / "f", "--png", png)
    assert said.code == 0 and png.stat().st_size > 10_000
    assert said.out.startswith("24 recordings, 0.07 h; labelled 24, 0.07 h, ")
    assert "a vocalisation (all but beep, synch, eating)" in said.out and "% train" in said.out
    found = json.loads(a2v("data", "stats", synthetic, "--folds", tmp_path / "f", "--json").out)
    assert sum(row["events"] for row in found["per_class"].values()) == found["events"]
    assert list(found["folds"][0]["train"]) == ["0.01", "0.25", "1"] and found["left_out"] == []
    said = a2v("data", "stats", synthetic, "--png", png)
    assert said.code == 2 and "exists already" in said.only_line()
    said = a2v("data", "stats", synthetic, "--not-vocal", "beeps")
    assert said.code == 2 and "did you mean 'beep'?" in said.only_line()
    found = json.loads(a2v("data", "stats", synthetic, "--not-vocal", "", "--json").out)
    assert found["not_vocal"] == [] and found["share_any"] == found["share_vocal"]


def test_what_is_left_out_of_a_folder_is_told(a2v, csv_source, tmp_path):
    """Statistics and folds are those of the others, and the exit code says that something is missing."""
    folder = tmp_path / "tones"
    (folder / "audio").mkdir(parents=True)
    for path in (csv_source / "audio").iterdir():
        (folder / "audio" / path.name).symlink_to(path)
    (folder / "annotations.csv").symlink_to(csv_source / "annotations.csv")
    (folder / "audio" / "bad.wav").write_bytes(b"")
    said = a2v("data", "stats", folder)
    assert said.code == 1 and said.out.startswith("left out: 'bad.wav' is empty") and "12 recordings" in said.out
    said = a2v("data", "folds", folder, "--out", tmp_path / "f", "--folds", 3)
    assert said.code == 1 and "left out: 'bad.wav'" in said.out and (tmp_path / "f" / "valid_2.tsv").is_file()


def test_preview(a2v, synthetic, corpus: Corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = a2v("data", "preview", synthetic / "wav" / "r0001_s2.wav", "--end", 4)
    assert said.code == 0 and (tmp_path / "r0001_s2_0-4s.png").stat().st_size > 10_000
    assert said.out.startswith("r0001_s2_0-4s.png: 00:00 to 00:04 (0 to 4 s) of r0001_s2.wav, which has 00:10 (10 s)")
    assert " at 8000 Hz\nevents: " in said.out
    assert said.out.rstrip().endswith(f"labels: {synthetic / 'lbl' / 'r0001_s2.h5'}")
    said = a2v("data", "preview", corpus.folder, "--recording", "rec03.wav", "--out", "packed.pdf")
    assert said.code == 0 and (tmp_path / "packed.pdf").is_file() and "events: 4 in this piece (" in said.out
    said = a2v("data", "preview", synthetic / "wav" / "r0001_s2.wav", "--end", 4)
    assert said.code == 2 and "exists already" in said.only_line()
    said = a2v("data", "preview", corpus.folder)
    assert said.code == 2 and "name one of its 12 recordings (rec00.wav, rec01.wav, rec02.wav, ...)" in said.only_line()
    said = a2v("data", "preview", tmp_path / "gone.wav")
    assert said.code == 2 and said.only_line().endswith("gone.wav: no such recording")


def test_preview_of_silence_says_where_the_next_call_is(a2v, csv_source, tmp_path):
    path = csv_source / "audio" / "rec00.wav"
    said = a2v("data", "preview", path, "--end", 0.1, "--out", tmp_path / "a.png")
    first = min(
        float(line.split(",")[1])
        for line in (csv_source / "annotations.csv").read_text().splitlines()[1:]
        if line.startswith("rec00.wav")
    )
    assert said.code == 0 and f"the next event begins at 00:0{first:.3g} ({first:.3f} s): --start 0" in said.out


def test_tables_are_aligned_in_every_script():
    table = text_table(("name", "n"), (("狐獴", "1"), ("e\u0301", "22"), ("abc", "")))
    assert table.splitlines() == ["name   n", "狐獴   1", "e\u0301     22", "abc"]
