"""What can be trained on can be scored: one reader of tables, with the same options in every command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.pack import PackConfig, pack
from a2v_data.sources import open_source
from a2v_experiments.score.files import read_events

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)"
BIRDNET = f"{RAVEN}\tCommon Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)"
TWO_COLUMNS = "file,onset_s,offset_s,label,species\na.wav,1,2,song,wren\na.wav,4,5,call,robin\n"
JSON = {"recordings": [{"file": "a.wav", "events": [{"onset_s": 1, "offset_s": 2, "label": "cc", "likelihood": 0.5}]}]}
Row = tuple[str, float, float, str, float | None]


def make(folder: Path, name: str, text: str) -> Path:
    """Two recordings of 12 s, and one table in annotations/."""
    for stem in "ab":
        (folder / "audio").mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "audio" / f"{stem}.wav", np.full(12_000, 0.1), 1000)
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / name).write_text(text, encoding="utf-8")
    return folder


CASES: dict[str, tuple[str, str, dict[str, str], list[Row], set[str]]] = {
    "birdnet with nocall": (
        "a.BirdNET.selection.table.txt",
        f"{BIRDNET}\n1\tSpectrogram 1\t1\t3\t6\tWren\twren1\t0.9\t/data/a.wav\t3\n"
        "2\tSpectrogram 1\t1\t12\t15\tnocall\tnocall\t1.0\t/data/b.wav\t0\n",
        {}, [("a", 3, 6, "Wren", 0.9)], {"b"},
    ),
    "birdnet's csv with nocall": (
        "b.BirdNET.results.csv",
        "Start (s),End (s),Scientific name,Common name,Confidence,File\n0,3,Troglodytes,Wren,0.75,a.wav\n"
        "0,3,nocall,nocall,1.0,b.wav\n",
        {}, [("a", 0, 3, "Wren", 0.75)], {"b"},
    ),
    "an older birdnet's score": (
        "a.BirdNET.selection.table.txt",
        f"{RAVEN}\tSpecies Code\tCommon Name\tScore\n1\tSpectrogram 1\t1\t3\t6\twren1\tWren\t0.9\n",
        {}, [("a", 3, 6, "Wren", 0.9)], set(),
    ),
    "raven with a length": (
        "a.Table.1.selections.txt",
        "Selection\tBegin Time (s)\tDelta Time (s)\tAnnotation\n1\t1.0\t0.5\tTrill\n",
        {}, [("a", 1, 1.5, "Trill", None)], set(),
    ),
    "raven's class in the filled column": (
        "a.Table.1.selections.txt", f"{RAVEN}\tAnnotation\tCall Type\n1\tWaveform 1\t1\t1\t2\t\tTrill\n",
        {}, [("a", 1, 2, "Trill", None)], set(),
    ),
    "raven's tags": (
        "a.Table.1.selections.txt", f"{RAVEN}\tTags\n1\tWaveform 1\t1\t1\t2\tTrill\n",
        {}, [("a", 1, 2, "Trill", None)], set(),
    ),
    "a table that R wrote": (
        "a.Table.1.selections.txt", '"Selection"\t"Begin Time (s)"\t"End Time (s)"\t"Tag"\n1\t1\t2\t"Trill"\n',
        {}, [("a", 1, 2, "Trill", None)], set(),
    ),
    "a class in a second column": (
        "all.csv", TWO_COLUMNS, {"label_column": "species"},
        [("a", 1, 2, "wren", None), ("a", 4, 5, "robin", None)], set(),
    ),
    "audacity": (
        "a.txt", "1\t2\tcc\n\\\t500\t900\n3\t4\tsn\n",
        {}, [("a", 1, 2, "cc", None), ("a", 3, 4, "sn", None)], set(),
    ),
    "audacity with likelihoods": ("a.txt", "1\t2\tcc 0.8731\n", {}, [("a", 1, 2, "cc", 0.8731)], set()),
    "an empty track": ("b.wav.txt", "", {}, [], {"b"}),
    "a2v predict's csv": (
        "events.csv",
        "file,onset_s,offset_s,label,likelihood,threshold,model\na.wav,1.0,2.0,cc,0.873,0.15,m\nb.wav,,,,,,\n",
        {}, [("a", 1, 2, "cc", 0.873)], {"b"},
    ),
    "with tabs": (
        "events.tsv", "file\tonset_s\toffset_s\tlabel\na.wav\t1\t2\tcc\n", {}, [("a", 1, 2, "cc", None)], set(),
    ),
    "json": ("events.json", json.dumps(JSON), {"format": "json"}, [("a", 1, 2, "cc", 0.5)], set()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_evaluate_and_annotations_read_the_same(tmp_path: Path, case: str) -> None:
    name, text, options, rows, silent = CASES[case]
    folder = make(tmp_path, name, text)
    config = AnnotationConfig(**options)
    trained = open_source(folder, config).read()
    scored = read_events(folder / "annotations", config)
    assert trained.problems == []
    for found in (trained.rows, scored.rows):
        assert [(Path(r.file).stem, r.onset_s, r.offset_s, r.label, r.likelihood) for r in found] == rows
    assert {Path(name).stem for name in trained.annotated - {row.file for row in trained.rows}} == silent
    assert {Path(name).stem for name in scored.silent} == silent


def test_a_no_call_is_no_false_positive(a2v, tmp_path: Path) -> None:
    name, text, *_ = CASES["birdnet with nocall"]
    folder = make(tmp_path / "said", name, text)
    (tmp_path / "true.csv").write_text("file,onset_s,offset_s,label\na.wav,3.5,5,Wren\nb.wav,,,\n")
    said = a2v("evaluate", folder / "annotations", tmp_path / "true.csv", "--protocol", "strict", "--json")
    found = json.loads(said.out)
    assert [row["class"] for row in found["protocols"]["strict"]["scores"]] == ["Wren", "micro", "macro"]
    assert found["protocols"]["strict"]["scores"][1]["precision"] == 1 and len(found["recordings"]) == 2


def test_options_of_either_side(a2v, tmp_path: Path) -> None:
    true = tmp_path / "true.txt"
    true.write_text(f"{RAVEN}\tBegin File\tSpecies\tType\n1\tWaveform 1\t1\t1\t2\ta.wav\twren\tsong\n")
    said = tmp_path / "said.csv"
    said.write_text("file,onset_s,offset_s,label,kind,score\na.wav,1,2,W,x,0.5\na.wav,5,6,noise,x,0.4\n")
    (tmp_path / "map.csv").write_text("label,class\nwren,bird\n")
    (tmp_path / "theirs.yaml").write_text("W: bird\nnoise:\n")
    refused = a2v("evaluate", said, true)
    assert refused.code == 2 and "columns Type and Species may all hold the class" in refused.err
    assert refused.err.endswith("choose one with --label-column\n")
    turned = a2v("evaluate", true, true, "--label-column", "Type")
    assert turned.code == 2 and turned.err.endswith("choose one with --predictions-label-column\n")
    call = ("evaluate", said, true, "--label-column", "Species", "--mapping", tmp_path / "map.csv", "--json")
    found = json.loads(a2v(*call, "--predictions-mapping", tmp_path / "theirs.yaml").out)
    micro = next(row for row in found["protocols"]["strict"]["scores"] if row["class"] == "micro")
    assert (micro["labels"], micro["predictions"], micro["F1"], micro["AP"]) == (1, 1, 1, 1)
    assert "theirs.yaml: events of 'noise' dropped: 1" in found["notices"]
    unknown = a2v("evaluate", said, true, "--label-column", "Species", "--predictions-mapping", tmp_path / "map.csv")
    assert unknown.code == 2 and "label 'W' is not in map.csv" in unknown.err
    assert "set --predictions-unmapped to keep or drop" in unknown.err
    wrong = a2v("evaluate", said, true, "--predictions-point-duration", 0)
    assert wrong.code == 2 and wrong.only_line().startswith("--predictions-point-duration: ")


def test_labels_need_no_likelihood_that_can_be_read(a2v, tmp_path: Path) -> None:
    """People write `high` into a column Confidence of their labels; of predictions that is an error."""
    table = tmp_path / "true.csv"
    table.write_text("file,onset_s,offset_s,label,confidence\na.wav,1,2,cc,high\n")
    (tmp_path / "said.csv").write_text("file,onset_s,offset_s,label\na.wav,1,2,cc\n")
    assert a2v("evaluate", tmp_path / "said.csv", table).code == 0
    said = a2v("evaluate", table, table)
    assert said.code == 2 and "row 2: confidence is 'high'; it must be a number" in said.err
    folder = make(tmp_path / "source", "all.csv", table.read_text())
    assert a2v("data", "annotations", folder).code == 0


def test_recordings_whose_events_are_dropped_were_listened_to(tmp_path: Path) -> None:
    folder = make(tmp_path, "a.txt", "1\t2\tnoise\n") / "annotations"
    (folder / "README.txt").write_text("what the labels mean")
    (folder / "map.csv").write_text("label,class\nnoise,\n")
    found = read_events(folder, AnnotationConfig(mapping="map.csv"))
    assert (found.rows, found.silent, found.tables) == ([], ["a"], 1)


def test_other_commands_take_the_options_too(a2v, tmp_path: Path) -> None:
    folder = make(tmp_path / "source", "all.csv", TWO_COLUMNS + "b.wav,1,2,song,wren\nb.wav,4,5,song,robin\n")
    species = ("--label-column", "species")
    found = json.loads(a2v("data", "stats", folder, *species, "--json").out)
    assert {name: row["events"] for name, row in found["per_class"].items()} == {"robin": 2, "wren": 2}
    said = a2v("data", "folds", folder, *species, "--out", tmp_path / "folds", "--folds", 2, "--shares", "", "--json")
    assert set(json.loads(said.out)["classes"]) == {"robin", "wren"}
    drawn = ("data", "preview", folder / "audio" / "a.wav", "--annotations", folder / "annotations" / "all.csv")
    assert "2 in this piece (wren, robin)" in a2v(*drawn, *species, "--out", tmp_path / "a.png").out
    pack(folder, tmp_path / "packed", PackConfig(sample_rate=1000))
    said = a2v("data", "stats", tmp_path / "packed", *species)
    assert said.code == 2 and said.only_line().endswith("a packed corpus has its own labels; leave out label_column")


def test_a_suggested_recipe_reads_tables_as_it_was_told(a2v, tmp_path: Path) -> None:
    folder = make(tmp_path / "source", "all.csv", TWO_COLUMNS + "b.wav,1,2,song,wren\n")
    recipe = tmp_path / "mine.yaml"
    said = a2v("experiment", "suggest", folder, "--out", recipe, "--label-column", "species", "--minutes", 1)
    assert said.code == 0, said.err
    assert yaml.safe_load(recipe.read_text())["data"]["annotations"] == {"label_column": "species"}
