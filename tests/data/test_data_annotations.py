"""Annotations: right rows are read, each wrong row is named with file, row and what would be right."""

import copy
import unicodedata
from pathlib import Path

import pytest
from a2v_data.annotations import AnnotationError, read_annotations

HEADER = "file,onset_s,offset_s,label,focal"


def read(tmp_path: Path, *rows: str, header: str = HEADER, names: tuple[str, ...] = ("a.wav",)):
    for name in names:
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "annotations.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    return read_annotations(tmp_path / "annotations.csv", tmp_path / "audio")


def test_values_names_and_flags(tmp_path: Path) -> None:
    found = read(tmp_path, "a.wav,0.25,1.5,cc,1", "", "audio/a.wav, 2 ,3, sn ,", "d/b.flac,0,1e-1,cc,False",
                 names=("a.wav", "d/b.flac"))  # fmt: skip
    rows = [(row.file, row.onset_s, row.offset_s, row.label, row.focal) for row in found.rows]
    assert rows == [
        ("a.wav", 0.25, 1.5, "cc", True),
        ("a.wav", 2.0, 3.0, "sn", False),
        ("d/b.flac", 0.0, 0.1, "cc", False),
    ]
    assert found.rows[2].where == "annotations.csv, row 5"  # the header is row 1, the empty line counts
    assert found.annotated == {"a.wav", "d/b.flac"}


def test_focal_and_further_columns_are_optional(tmp_path: Path) -> None:
    header = "\ufefflabel,offset_s,snr_db,onset_s,file"  # as Excel writes it: with a byte order mark
    found = read(tmp_path, "cc,2,-3.5,1,a.wav", header=header)
    assert (found.rows[0].label, found.rows[0].onset_s, found.rows[0].focal) == ("cc", 1.0, False)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a.wav,x,1,cc,", "onset_s is 'x'; it must be a number"),
        ("a.wav,0,,cc,", "offset_s is ''; it must be a number"),
        ("a.wav,nan,1,cc,", "onset_s is nan; it must be a finite number"),
        ("a.wav,0,inf,cc,", "offset_s is inf; it must be a finite number"),
        ("a.wav,-0.1,1,cc,", "onset_s is -0.1; it must not be negative"),
        ("a.wav,1,0.5,cc,", "offset_s 0.5 is not after onset_s 1"),
        ("a.wav,1,1,cc,", "offset_s 1 is not after onset_s 1"),
        ("a.wav,0,1, ,", "label is empty"),
        ("b.wav,0,1,cc,", "file 'b.wav' does not exist"),
        ("b.wav,0,1,cc,", "did you mean 'a.wav'?"),
        (",0,1,cc,", "file is empty"),
        ("../annotations.csv,0,1,cc,", "does not exist"),
        (f"{'x' * 400}.wav,0,1,cc,", "does not exist"),
        ("a.wav,0,1,cc,maybe", "focal is 'maybe'; it must be 1 or 0"),
        ("a.wav,0,5,1,5,cc", "6 fields, the header has 5"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, said: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        read(tmp_path, "a.wav,0,1,cc,0", row)
    first, problem = str(caught.value).split("\n")
    assert first.endswith("annotations.csv: 1 wrong annotation")
    assert problem.startswith("annotations.csv, row 3: ") and said in problem


def test_ten_problems_are_shown_and_all_are_kept(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError) as caught:
        read(tmp_path, *["a.wav,2,1,cc,"] * 13)
    lines = str(caught.value).split("\n")
    assert lines[0].endswith("13 wrong annotations") and lines[-1] == "... and 3 more" and len(lines) == 12
    assert len(caught.value.problems) == 13
    assert str(copy.copy(caught.value)) == str(caught.value)  # it crosses process borders


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("file,onset_s,label", "no column offset_s"),
        ("file;onset_s;label", "no column offset_s (the header has file, onset_s, label)"),
        ("file,onset_s,offset_s,label,label", "column label twice"),
        ("", "no column file, onset_s, offset_s, label (the header has nothing)"),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, header: str, said: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        read(tmp_path, header=header)
    assert "annotations.csv, row 1: " in str(caught.value) and said in str(caught.value)


def test_missing_file_and_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file; annotations are a CSV"):
        read_annotations(tmp_path / "none.csv", tmp_path)
    (tmp_path / "latin.csv").write_bytes("file,onset_s,offset_s,label\nä.wav,0,1,cc\n".encode("latin-1"))
    with pytest.raises(ValueError, match="row 2: not UTF-8; save it as UTF-8, or name its encoding"):
        read_annotations(tmp_path / "latin.csv", tmp_path)


def test_accents_match_however_they_are_stored(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Mönch/grüß.wav")
    composed = unicodedata.normalize("NFC", decomposed)
    assert composed != decomposed
    found = read(tmp_path, f"{composed},0,1,cc,", f"audio/{composed},1,2,cc,", names=(decomposed,))
    assert {row.file for row in found.rows} == {decomposed}


def test_a_bare_name_is_not_guessed_into_another_folder(tmp_path: Path) -> None:
    """day2/a.wav is missing: day1/a.wav is another recording and must not take its events."""
    with pytest.raises(AnnotationError, match=r"'day2/a\.wav' does not exist.*did you mean 'day1/a\.wav'"):
        read(tmp_path, "day2/a.wav,0,1,cc,", names=("day1/a.wav",))
