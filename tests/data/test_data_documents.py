"""Documents that somebody else wrote are read within bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from a2v_data.class_mapping import read_mapping
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import CorpusWriter
from a2v_data.documents import MOST_VALUES, fits, json_of, read_json, read_yaml, reason, shown, yaml_of

LAUGHS = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def refused(read, *given, match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        read(*given)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_aliases_are_counted_as_what_they_stand_for() -> None:
    assert len(LAUGHS) < 500
    refused(yaml_of, LAUGHS, match=f"more than {MOST_VALUES:,} values, aliases followed")
    refused(yaml_of, "a: &a [*a]", match="an alias of what it stands in")
    # 1 mapping, 3 keys, 1 list of 999 numbers, twice an alias of 1000 values: 1 + 3 + 3 * 1000
    assert MOST_VALUES > 3004 and len(yaml_of(f"a: &a [{'1, ' * 998}1]\nb: *a\nc: *a")["c"]) == 999
    times = MOST_VALUES // 1000
    refused(yaml_of, f"a: &a [{'1, ' * 998}1]\nb: [{', '.join(['*a'] * times)}]", match="aliases followed")
    assert len(yaml_of(f"a: &a [{'1, ' * 998}1]\nb: [{', '.join(['*a'] * (times - 2))}]")["b"]) == times - 2


def test_a_long_text_behind_many_aliases_is_counted_too() -> None:
    text = f"a: &a {'x' * 64_000}\nb: [{', '.join(['*a'] * 100)}]"  # 101 times 1000 values and more
    refused(yaml_of, text, match="aliases followed")


def test_a_hundred_levels_and_no_more() -> None:
    for read in (json_of, yaml_of):
        tree = read("[" * 100 + "]" * 100)
        for _ in range(99):
            (tree,) = tree
        assert tree == []
        for depth in (101, 3000):
            refused(read, "[" * depth + "]" * depth, match="deeper than 100 levels")
    refused(json_of, "[" * 1_000_000, match="deeper than 100 levels")
    refused(yaml_of, "".join(f"{' ' * level}a:\n" for level in range(1500)), match="deeper than 100 levels")


@pytest.mark.parametrize("text", ["1" + "0" * 19, "9223372036854775808", "-9223372036854775809", "1" * 5000])
def test_whole_numbers_of_64_bits(text: str) -> None:
    for read in (json_of, yaml_of):
        refused(read, f'{{"a": [{text}]}}', match="digits")
    assert json_of("[-9223372036854775808, 9223372036854775807]") == [-(2**63), 2**63 - 1]


@pytest.mark.parametrize(
    "text", ["!!timestamp x", "!!int x", "!!float '.'", "9999-99-99", "!!python/object/apply:os.system [x]", "? [a]\n"]
)
def test_values_of_yaml_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"value|tag|unhashable"):
        yaml_of(text)
    assert yaml_of("{a: 2026-01-01}")["a"].year == 2026


def test_keys_that_stand_twice_are_refused_but_not_those_of_a_merge() -> None:
    refused(yaml_of, "a: 1\na: 2", match="'a' stands there twice")
    assert yaml_of("a: &a {b: 1, c: 2}\nd: {<<: *a, b: 3}")["d"] == {"b": 3, "c": 2}


def test_files_that_are_no_text_or_too_large(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content, match in ((b"\xff\xfea", "not UTF-8"), (b"a: \0", "NUL")):
        path.write_bytes(content)
        refused(read_json, path, match=match)
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(path) == [1]
    refused(lambda: read_json(path, 5), match="has 6 bytes, at most 5")
    path.write_bytes(b"# " + b"x" * (1 << 20))
    refused(read_yaml, path, match="at most 1,048,576")
    refused(read_json, tmp_path, match="no file")


@pytest.mark.parametrize(
    "error, told",
    [
        (ValueError("two\n  lines."), "two lines"),
        (FileNotFoundError(2, "No such file or directory", "/home/someone/x.wav"), "No such file or directory"),
        (OSError("Unable to open file"), "Unable to open file"),
        (KeyError(), "KeyError"),
        (ValueError("\x1b[31mred\u202e"), r"\x1b[31mred\u202e"),
        (ValueError("x" * 1000), "x" * 197 + "..."),
    ],
)
def test_what_an_error_says_is_one_line(error: Exception, told: str) -> None:
    assert reason(error) == told


def test_what_is_shown_of_a_value() -> None:
    assert shown("it's") == '"it\'s"'
    assert shown(0.5) == "0.5" and shown(["a", 1]) == "['a', 1]"
    for value in ("x" * 10**6, 10**5000, [["x" * 1000] * 1000] * 1000, {"\x1b[31m": "\u202e"}):
        assert len(shown(value)) <= 80 and shown(value).isprintable()


def test_types() -> None:
    assert fits([1, 2.5], list[float]) and fits(None, float | None) and fits({"a": [1]}, dict[str, list[int]])
    assert fits([0.0, 1], tuple[float, float]) and not fits([0.0], tuple[float, float])
    assert not fits(True, int) and not fits(1.0, int) and not fits("1", float) and not fits([["a"]], list[str])


def test_a_mapping_with_brackets_or_laughs_is_told_by_its_row(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("a: b\nc: " + "[" * 3000)
    refused(read_mapping, path, match="map.yaml, row 2: not readable as YAML")
    path.write_text(LAUGHS)
    refused(read_mapping, path, match="map.yaml")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    from a2v_data.corpus_files import EVENT_DTYPE

    folder = tmp_path / "corpus"
    folder.mkdir()
    writer = CorpusWriter(folder, 8000, ["cc", "sn"])
    writer.add("a.wav", np.zeros(8000, np.int16), True, 8000, 8000, 1.0)
    writer.add("b.wav", np.zeros(4000, np.int16), True, 8000, 4000, 1.0)
    writer.finish(np.array([(1, 1, 0.1, 0.2)], EVENT_DTYPE))
    assert len(Corpus.open(folder).recordings) == 2
    return folder


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda meta: meta.pop("checksums"), "checksums is missing"),
        (lambda meta: meta["checksums"].pop("events.npy"), "checksums has none of events.npy"),
        (lambda meta: meta.update(checksums=[]), r"checksums is \[\], should be dict"),
        (lambda meta: meta.update(classes="cc"), "classes is 'cc', should be list"),
        (lambda meta: meta.update(classes=["cc"]), "names a class that corpus.json does not have"),
        (lambda meta: meta.update(classes=["cc", "cc"]), "a class stands there twice"),
        (lambda meta: meta.update(sample_rate=0), "sample_rate should be above 0"),
        (lambda meta: meta.update(recordings=[[1]]), "a recording has not 7 values"),
        (lambda meta: meta["recordings"][0].__setitem__(1, "8000"), "n_samples of a recording is no int"),
        (lambda meta: meta["recordings"][0].__setitem__(1, -1), "n_samples of a recording is below 0"),
        (lambda meta: meta["recordings"][1].__setitem__(3, 9000), "lies beyond the end of audio.i16"),
        (lambda meta: meta["recordings"][1].__setitem__(0, "a.wav"), "two recordings have one name"),
        (lambda meta: meta.update(rates=[8000]), "rates should be one for each recording"),
        (lambda meta: meta.update(notices=[1]), r"notices is \[1\]"),
        (lambda meta: meta.update(format_version=[]), "format_version is"),
    ],
)
def test_a_corpus_description_that_is_none(corpus: Path, change, match: str) -> None:
    meta = json.loads((corpus / "corpus.json").read_text())
    change(meta)
    (corpus / "corpus.json").write_text(json.dumps(meta))
    refused(Corpus.open, corpus, match=match)


def test_laughs_take_no_memory(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(LAUGHS)
    script = (
        "import resource, sys; from pathlib import Path; from a2v_data.documents import read_yaml\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    read_yaml(Path(sys.argv[1]))\nexcept ValueError:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    said = subprocess.run([sys.executable, "-c", script, tmp_path / "r.yaml"], capture_output=True, text=True)
    assert int(said.stdout) < 20_000  # kB; with all of it 3.1 GB
