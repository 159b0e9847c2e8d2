"""xeno-canto from a small folder as downloads leave it."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.importers.xeno_canto import XenoCantoConfig, import_xeno_canto
from a2v_data.licences import recorded_licences
from a2v_data.pack import PackConfig, pack

RATE = 8000


def sound(path: Path, seed: int, seconds: float = 0.5, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise_N = np.random.default_rng(seed).integers(-3000, 3000, round(seconds * RATE)).astype(np.int16)
    soundfile.write(path, noise_N, RATE, **options)
    return path


def entry(number: int, **changes) -> dict:
    return {
        "id": str(number), "gen": "Troglodytes", "sp": "troglodytes", "ssp": "", "group": "birds", "en": "Wren",
        "rec": "A. Recordist", "cnt": "France", "loc": "Albussac, Corrèze", "type": "song", "q": "A", "length": "0:42",
        "url": f"//xeno-canto.org/{number}", "lic": "//creativecommons.org/licenses/by-nc-sa/4.0/",
        "file-name": f"XC{number}-wren.mp3", "also": ["Turdus merula", "Parus major"], "rmk": "two\nlines",
    } | changes  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Names as the API, the web site and scripts give them; two answers of the API and one record of its own."""
    sound(tmp_path / "xc" / "Wren" / "XC100001-wren.mp3", 1)
    sound(tmp_path / "xc" / "XC100002 - Eurasian Wren - Troglodytes troglodytes.wav", 2)
    sound(tmp_path / "xc" / "100003.flac", 3)
    sound(tmp_path / "xc" / "troglodytes_XC100004.ogg", 4)
    pages = [{"recordings": [entry(100001), entry(100002, q="C")]}, {"recordings": [entry(100003, q="E")]}]
    for number, page in enumerate(pages, start=1):
        (tmp_path / "xc" / f"page{number}.json").write_text(json.dumps({"numPages": 2, "page": number} | page))
    (tmp_path / "xc" / "XC100004.json").write_text(
        json.dumps(entry(100004, q="", lic="https://creativecommons.org/licenses/by-nc-nd/2.5/"))
    )
    return tmp_path / "xc"


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "recordings.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_downloads_become_a_source_with_recordists_and_licences(folder: Path, tmp_path: Path) -> None:
    found = import_xeno_canto(folder, tmp_path / "out", XenoCantoConfig())
    rows = table(tmp_path / "out")
    assert list(rows) == ["XC100001.mp3", "XC100002.wav", "XC100003.flac", "XC100004.ogg"]
    assert sorted(path.name for path in (tmp_path / "out" / "audio").iterdir()) == list(rows)
    assert found.problems == [] and found.notices == [] and (found.recordings, found.labelled) == (4, 0)
    first = rows["XC100001.mp3"]
    assert first["lic"] == "https://creativecommons.org/licenses/by-nc-sa/4.0/" and first["rec"] == "A. Recordist"
    assert first["url"] == "https://xeno-canto.org/100001" and first["also"] == "Turdus merula; Parus major"
    assert first["loc"] == "Albussac, Corrèze" and first["file-name"] == "XC100001-wren.mp3"
    copied = tmp_path / "out" / "audio" / "XC100002.wav"
    assert copied.read_bytes() == next(folder.glob("XC100002*")).read_bytes()
    assert (tmp_path / "out" / "annotations.csv").read_text() == "file,onset_s,offset_s,label\n"
    assert "xeno-canto.org" in (tmp_path / "out" / "README.md").read_text()


def test_licences_of_a_source_are_told_with_their_numbers(folder: Path, tmp_path: Path) -> None:
    import_xeno_canto(folder, tmp_path / "out", XenoCantoConfig())
    by, by_nd = (f"https://creativecommons.org/licenses/{name}/" for name in ("by-nc-sa/4.0", "by-nc-nd/2.5"))
    assert recorded_licences(tmp_path / "out") == f"{by} (3), {by_nd} (1)"
    lines = (tmp_path / "out" / "recordings.csv").read_text(encoding="utf-8").replace(by_nd, "")
    (tmp_path / "out" / "recordings.csv").write_text(lines, encoding="utf-8")
    assert recorded_licences(tmp_path / "out") == f"{by} (3), not recorded (1)"
    (tmp_path / "out" / "recordings.csv").write_text("file,site\na.wav,3\n")  # a table of somebody's own
    assert recorded_licences(tmp_path / "out") is None and recorded_licences(tmp_path) is None


def test_the_source_is_prepared_for_pretraining(folder: Path, tmp_path: Path) -> None:
    import_xeno_canto(folder, tmp_path / "out", XenoCantoConfig())
    corpus = pack(tmp_path / "out", tmp_path / "corpus", PackConfig(sample_rate=24_000))
    assert len(corpus.recordings) == 4 and not any(recording.labelled for recording in corpus.recordings)
    assert corpus.recordings[2].n_samples == 12_000 and len(corpus.events) == 0


def test_ratings_and_licences_are_chosen(folder: Path, tmp_path: Path) -> None:
    found = import_xeno_canto(folder, tmp_path / "q", XenoCantoConfig(quality=["A", "C"]))
    assert list(table(tmp_path / "q")) == ["XC100001.mp3", "XC100002.wav"]
    assert found.notices == ["left out, quality not in A/C: 2"] and found.problems == []
    found = import_xeno_canto(folder, tmp_path / "nd", XenoCantoConfig(no_derivatives=False))
    assert "XC100004.ogg" not in table(tmp_path / "nd")
    assert found.notices == ["left out, no derived works allowed: 1"]


def test_no_recording_comes_in_twice(folder: Path, tmp_path: Path) -> None:
    sound(folder / "again" / "XC100002-wren.wav", 2)
    sound(folder / "XC100005.wav", 2)  # another number, the same bytes
    found = import_xeno_canto(folder, tmp_path / "out", XenoCantoConfig())
    assert found.recordings == 4
    original = "XC100002 - Eurasian Wren - Troglodytes troglodytes.wav"
    assert found.notices == [
        f"again/XC100002-wren.wav is XC100002 again, like {original}, which was taken",
        f"XC100005.wav has the same sound as {original}; left out",
    ]


def test_recordings_of_another_corpus_are_kept_out(folder: Path, tmp_path: Path) -> None:
    other = sound(tmp_path / "nips" / "audio" / "train1.wav", 3, subtype="PCM_16")
    sound(tmp_path / "nips" / "audio" / "train2.wav", 99)  # as long, but another sound
    (tmp_path / "nips" / "audio" / "broken.wav").write_bytes(b"RIFF")
    found = import_xeno_canto(folder, tmp_path / "out", XenoCantoConfig(exclude=[tmp_path / "nips"]))
    assert list(table(tmp_path / "out")) == ["XC100001.mp3", "XC100002.wav", "XC100004.ogg"]
    assert found.notices == [f"100003.flac has the same sound as {other}; left out"]


def test_what_is_wrong_is_listed_and_its_neighbours_come_in(folder: Path, tmp_path: Path) -> None:
    (folder / "XC7.mp3").write_bytes(b"")
    (folder / "XC8.wav").write_bytes(sound(tmp_path / "long.wav", 8).read_bytes()[:500])
    (folder / "XC9.wav").mkdir()
    (folder / "notes.wav").write_bytes(b"x")
    (folder / "page3.json").write_text('{"recordings": [')
    sound(folder / "XC100010.wav", 10)
    found = import_xeno_canto(folder, tmp_path / "out", XenoCantoConfig())
    assert found.recordings == 5
    starts = [
        "page3.json: not readable as JSON",
        "notes.wav: no catalogue number (XC123456) in its name",
        "XC7.mp3: is empty (0 bytes)",
        "XC8.wav: is truncated",
        "XC9.wav: is a folder",
    ]
    assert len(found.problems) == len(starts) and all(map(str.startswith, found.problems, starts))
    assert found.notices == ["without metadata, so their licence is not known: 1 (XC100010.wav)"]


def test_missing_downloads_are_told(folder: Path, tmp_path: Path) -> None:
    (folder / "100003.flac").unlink()
    found = import_xeno_canto(folder, tmp_path / "out", XenoCantoConfig())
    assert found.notices == ["in the metadata but not in the folder: 1 (XC100003)"]


def test_names_that_are_no_text_do_no_harm(folder: Path, tmp_path: Path) -> None:
    sound(tmp_path / "s.wav", 20).rename(folder / os.fsdecode(b"XC100020 gr\xfcn.wav"))
    (folder / "page4.json").write_text(json.dumps({"recordings": [entry(100001, en="\ud83d", loc=None)]}))
    (folder / "page1.json").unlink()
    found = import_xeno_canto(folder, tmp_path / "out", XenoCantoConfig())
    (problem,) = found.problems
    assert problem == "XC100020 gr\udcfcn.wav: has a name that is not UTF-8; rename it (left out)"
    assert "XC100020 gr\\udcfcn.wav: has a name" in (tmp_path / "out" / "README.md").read_text()
    assert table(tmp_path / "out")["XC100001.mp3"]["en"] == "\\ud83d" and found.recordings == 4


def test_links_need_no_space(folder: Path, tmp_path: Path) -> None:
    import_xeno_canto(folder, tmp_path / "out", XenoCantoConfig(link=True))
    assert (tmp_path / "out" / "audio" / "XC100003.flac").samefile(folder / "100003.flac")


def test_nothing_is_left_where_nothing_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "xc").mkdir()
    for said in ("no audio in it", "none of its recordings can be used; XC1.mp3: is empty"):
        with pytest.raises(ValueError, match=said):
            import_xeno_canto(tmp_path / "xc", tmp_path / "out", XenoCantoConfig())
        (tmp_path / "xc" / "XC1.mp3").touch()
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        import_xeno_canto(tmp_path / "nowhere", tmp_path / "out", XenoCantoConfig())
    with pytest.raises(ValueError, match="other: no such folder; exclude names a folder"):
        import_xeno_canto(tmp_path / "xc", tmp_path / "out", XenoCantoConfig(exclude=[tmp_path / "other"]))
    assert [path.name for path in tmp_path.iterdir()] == ["xc"]


@pytest.mark.parametrize("wrong", ["", "ABC", "12x", "-5", "1.5", "9" * 5000, None, ["1"], {"a": 1}, "XC", "\x1b[31m"])
def test_an_id_that_is_no_number_is_left_out_and_named(folder: Path, tmp_path: Path, wrong: object) -> None:
    (folder / "more.json").write_text(json.dumps({"recordings": [entry(7, id=wrong), entry(100005)]}))
    name = "ABC.flac" if wrong == "ABC" else "other.flac"
    sound(folder / name, 9)
    found = import_xeno_canto(folder, tmp_path / "out", XenoCantoConfig())
    assert len(table(tmp_path / "out")) == 4
    (told,) = [line for line in found.problems if "is no catalogue number" in line]
    assert told.startswith("more.json: id ") and len(told) < 250
    assert any(
        line.startswith(name) and "no catalogue number (XC123456) in its name" in line for line in found.problems
    )
    assert any("XC100005" in line for line in found.notices)


def test_json_that_is_too_deep_is_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    (folder / "deep.json").write_text("[" * 100_000)
    found = import_xeno_canto(folder, tmp_path / "out", XenoCantoConfig())
    assert found.recordings == 4 and found.problems[0].startswith("deep.json: not readable as JSON")
