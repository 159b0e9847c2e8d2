"""NIPS4Bplus from small archives in the published layout."""

from __future__ import annotations

import csv
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.importers import archives as archive_module
from a2v_data.importers.nips4bplus import Nips4bplusConfig, import_nips4bplus
from a2v_data.pack import PackConfig, pack
from a2v_data.sources import open_source

RATE = 44_100
ROOT = "NIPS4B_BIRD_CHALLENGE_TRAIN_TEST_WAV"
ANNOTATIONS = "temporal_annotations_nips4b"


def wav(seed: int, seconds: float = 0.5) -> bytes:
    noise = np.random.default_rng(seed).normal(0, 0.05, round(seconds * RATE))
    file = io.BytesIO()
    soundfile.write(file, noise, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def published(train: dict[int, bytes], test: dict[int, bytes] | None = None) -> dict[str, bytes]:
    files = {f"{ROOT}/train/nips4b_birds_trainfile{number:03d}.wav": content for number, content in train.items()}
    return files | {f"{ROOT}/test/nips4b_birds_testfile{n:04d}.wav": content for n, content in (test or {}).items()}


def tar(path: Path, files: dict[str, bytes], extra: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return path


def zipped(path: Path, tables: dict[int, str], more: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number, text in tables.items():
            archive.writestr(f"{ANNOTATIONS}/annotation_train{number:03d}.csv", text)
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    return path


def rows(out: Path) -> list[tuple[str, ...]]:
    with (out / "annotations.csv").open(newline="") as file:
        return [tuple(row) for row in csv.reader(file)]


def run(tmp_path: Path, train, tables, test=None, **config):
    audio = tar(tmp_path / "audio.tar.gz", published(train, test))
    labels = zipped(tmp_path / "annotations.zip", tables)
    return import_nips4bplus([audio, labels], tmp_path / "out", Nips4bplusConfig(**config))


def test_the_published_layout_becomes_a_source(tmp_path: Path) -> None:
    train = {1: wav(1), 2: wav(2), 3: wav(3, 0.3), 4: wav(4)}
    tables = {
        1: "0.10,0.05,Sylcan_call\n0.2,0.1,Erirub_song\n0.25,0.05,Unknown\n",
        2: "\r\n",
        3: "0.2,0.15,Turmer_call\n",  # 50 ms beyond the end
    }
    found = run(tmp_path, train, tables, {1: wav(9)})
    out = tmp_path / "out"
    assert sorted(path.name for path in (out / "audio").iterdir()) == [
        f"nips4b_birds_trainfile00{number}.wav" for number in (1, 2, 3, 4)
    ]
    assert (out / "audio" / "nips4b_birds_trainfile001.wav").read_bytes() == train[1]  # as published
    assert rows(out) == [
        ("file", "onset_s", "offset_s", "label"),
        ("nips4b_birds_trainfile001.wav", "0.100000", "0.150000", "Sylcan_call"),
        ("nips4b_birds_trainfile001.wav", "0.200000", "0.300000", "Erirub_song"),
        ("nips4b_birds_trainfile003.wav", "0.200000", "0.300000", "Turmer_call"),
        ("nips4b_birds_trainfile002.wav", "", "", ""),
    ]
    assert found.problems == [] and (found.recordings, found.labelled, found.events) == (4, 3, 3)
    assert found.seconds == pytest.approx(1.8, abs=1e-3)
    assert found.notices == [
        "without annotations, for pretraining only: 1 (nips4b_birds_trainfile004.wav)",
        "events that passed the end of their recording, cut there: 1",
        "events labelled Unknown, which is no class, left out: 1",
    ]
    readme = (out / "README.md").read_text()
    assert "peerj-cs.223" in readme and "keep_unknown: False" in readme and found.notices[0] in readme


def test_the_source_is_prepared_at_24_khz_with_the_right_recordings_labelled(tmp_path: Path) -> None:
    run(tmp_path, {1: wav(1), 2: wav(2), 4: wav(4)}, {1: "0.10,0.05,Sylcan_call\n", 2: ""})
    source = open_source(tmp_path / "out")
    assert source.annotations().annotated == {f"nips4b_birds_trainfile00{number}.wav" for number in (1, 2)}
    corpus = pack(tmp_path / "out", tmp_path / "corpus", PackConfig(sample_rate=24_000))
    assert corpus.sample_rate == 24_000 and corpus.classes == ("Sylcan_call",)
    assert [recording.labelled for recording in corpus.recordings] == [True, True, False]
    assert [recording.n_samples for recording in corpus.recordings] == [12_000] * 3


def test_options_for_what_the_paper_leaves_open(tmp_path: Path) -> None:
    found = run(tmp_path, {1: wav(1)}, {1: "0.1,0.05,Unknown\n0.2,0.1,Human\n"}, {7: wav(7)}, keep_unknown=True,
                challenge_test=True)  # fmt: skip
    assert [row[3] for row in rows(tmp_path / "out")[1:]] == ["Unknown", "Human"]
    assert (found.recordings, found.labelled) == (2, 1)
    assert (tmp_path / "out" / "audio" / "nips4b_birds_testfile0007.wav").read_bytes() == wav(7)


def test_extracted_folders_do_as_well_and_the_species_list_is_kept(tmp_path: Path) -> None:
    tables = {f"labels/{ANNOTATIONS}/annotation_train001.csv": b"0.1,0.05,Sylcan_call\n"}
    tables["labels/nips4b_birdchallenge_espece_list.csv"] = b"class number,class name\n1,Aegcau_call\n"
    for name, content in (published({1: wav(1)}) | tables).items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    found = import_nips4bplus([tmp_path / "in"], tmp_path / "out", Nips4bplusConfig())
    assert found.events == 1
    assert (tmp_path / "out" / "nips4b_birdchallenge_espece_list.csv").read_bytes().startswith(b"class number")


def test_no_sound_comes_in_twice(tmp_path: Path) -> None:
    """Train 1 is train 2 and test 5 again; the annotated one stays."""
    other_header = io.BytesIO()
    audio, rate = soundfile.read(io.BytesIO(wav(2)), dtype="int16")
    soundfile.write(other_header, audio, rate, format="WAVEX", subtype="PCM_16")
    assert other_header.getvalue() != wav(2)
    found = run(tmp_path, {1: wav(2), 2: wav(2), 3: wav(3)}, {2: "0.1,0.1,a\n", 3: ""},
                {5: other_header.getvalue()}, challenge_test=True)  # fmt: skip
    names = [path.name for path in sorted((tmp_path / "out" / "audio").iterdir())]
    assert names == ["nips4b_birds_trainfile002.wav", "nips4b_birds_trainfile003.wav"]
    same = "has the same sound as nips4b_birds_trainfile002.wav, which alone was taken"
    assert found.notices == [f"nips4b_birds_trainfile001.wav {same}", f"nips4b_birds_testfile0005.wav {same}"]


def test_what_is_wrong_is_listed_and_its_neighbours_come_in(tmp_path: Path) -> None:
    train = {1: wav(1), 2: wav(2)[:2000], 3: b"", 4: wav(4), 5: wav(5), 6: wav(6)}
    tables = {
        1: "0.1,0.1,a\n", 2: "0.1,0.1,a\n", 4: "0.1,0.1,a\n0.2,x,b\n", 5: "0,1;0,1;a\n", 6: "0.9,0.1,a\n",
        99: "0.1,0.1,a\n",
    }  # fmt: skip
    found = run(tmp_path, train, tables)
    starts = [
        "nips4b_birds_trainfile002.wav: is truncated",
        "nips4b_birds_trainfile003.wav: is empty (0 bytes)",
        "annotation_train002.csv: its recording nips4b_birds_trainfile002.wav was left out",
        "annotation_train004.csv, row 2: duration is 'x'; it must be a number",
        "annotation_train004.csv: not used; nips4b_birds_trainfile004.wav is there without annotations",
        "annotation_train005.csv, row 1: ",
        "annotation_train005.csv: not used",
        "annotation_train006.csv, row 1: starts at 0.9 s, its recording ends at 0.500 s",
        "annotation_train006.csv: not used",
        "annotation_train099.csv: its recording nips4b_birds_trainfile099.wav is not there",
    ]
    assert len(found.problems) == len(starts) and all(map(str.startswith, found.problems, starts))
    assert len(rows(tmp_path / "out")) == 2 and found.recordings == 4 and found.labelled == 1
    assert "## Left out" in (tmp_path / "out" / "README.md").read_text()


def test_archives_that_are_not_whole_leave_nothing(tmp_path: Path) -> None:
    audio = tar(tmp_path / "audio.tar.gz", published({1: wav(1), 2: wav(2)}))
    labels = zipped(tmp_path / "annotations.zip", {1: "0.1,0.1,a\n"})
    for name, path in (("cut.tar.gz", audio), ("cut.zip", labels)):
        (tmp_path / name).write_bytes(path.read_bytes()[:-60])
    (tmp_path / "text.zip").write_text("not found")
    config, out = Nips4bplusConfig(), tmp_path / "out"
    for archives, said in (
        ([tmp_path / "cut.tar.gz", labels], "cut.tar.gz: not readable as a tar or zip archive"),
        ([audio, tmp_path / "cut.zip"], "cut.zip: not readable as a tar or zip archive"),
        ([audio, tmp_path / "text.zip"], "text.zip: not readable as a tar or zip archive"),
        ([audio, tmp_path / "none.zip"], "none.zip: no such archive or folder"),
        ([audio], r"audio.tar.gz: no annotation_train001.csv and so on in it; give the zip"),
        ([labels], r"annotations.zip: no recording nips4b_birds_trainfile001.wav and so on in it"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            import_nips4bplus(archives, out, config)
        assert "\n" not in str(caught.value)
        assert not out.exists() and not list(tmp_path.glob(".out*"))
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(ValueError, match="exists already"):
        import_nips4bplus([audio, labels], out, config)


def test_archives_cannot_write_outside_the_new_folder(tmp_path: Path) -> None:
    name = "nips4b_birds_trainfile001.wav"
    link = tarfile.TarInfo(f"{ROOT}/train/nips4b_birds_trainfile002.wav")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard = tarfile.TarInfo(f"{ROOT}/train/nips4b_birds_trainfile003.wav")
    hard.type, hard.linkname = tarfile.LNKTYPE, "../../secret.wav"
    files = {f"../../{name}": wav(1), "/tmp/evil.sh": b"x", f"{ROOT}/train/._{name}": b"x", f"{name}/../x.wav": b"x"}
    audio = tar(tmp_path / "audio.tar.gz", files, (link, hard))
    labels = zipped(tmp_path / "l.zip", {}, {"..\\..\\annotation_train001.csv": b"0.1,0.1,a\n"})
    before = {path for path in tmp_path.parent.rglob("*")}
    found = import_nips4bplus([audio, labels], tmp_path / "out", Nips4bplusConfig())
    new = {path for path in tmp_path.parent.rglob("*")} - before
    assert all(path.is_relative_to(tmp_path / "out") for path in new)
    assert [path.name for path in (tmp_path / "out" / "audio").iterdir()] == [name] and found.events == 1


def test_a_file_larger_than_any_published_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_BYTES", 100_000)
    found = run(tmp_path, {1: wav(1), 2: wav(2, 2.0)}, {1: "0.1,0.1,a\n"})
    assert found.recordings == 1
    (problem,) = found.problems
    assert problem.startswith(f"audio.tar.gz: {ROOT}/train/nips4b_birds_trainfile002.wav: is larger than")


def test_the_same_file_in_two_archives(tmp_path: Path) -> None:
    first = tar(tmp_path / "1.tar.gz", published({1: wav(1), 2: wav(2)}))
    second = tar(tmp_path / "2.tar.gz", published({1: wav(1), 2: wav(3)}))
    labels = zipped(tmp_path / "l.zip", {1: "0.1,0.1,a\n"})
    found = import_nips4bplus([first, second, labels], tmp_path / "out", Nips4bplusConfig())
    assert found.problems == [
        "nips4b_birds_trainfile002.wav: is there twice with different content; the first was taken"
    ]
    assert (tmp_path / "out" / "audio" / "nips4b_birds_trainfile002.wav").read_bytes() == wav(2)


def test_a_header_of_an_archive_is_not_read_whole_where_it_is_long(tmp_path: Path) -> None:
    """A name of two megabytes, which a few bytes hold when they are compressed; one of 300 letters is a name."""

    def archive(name: str) -> Path:
        path = tmp_path / f"{len(name)}.tar.gz"
        with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as file:
            file.addfile(tarfile.TarInfo(name), io.BytesIO())
        return path

    with pytest.raises(ValueError, match="not readable as a tar or zip archive"):
        list(archive_module.wanted_files(archive("x" * 2_000_000), lambda name: True))
    ((name, content),) = archive_module.wanted_files(archive("x" * 300), lambda name: True)
    assert name == "x" * 300 and content == b""
