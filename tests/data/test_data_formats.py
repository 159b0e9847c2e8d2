"""Each format's reader: what is right is read, what is wrong is named with its row, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.formats import detect, read_table
from a2v_data.formats.table import Table, TableError
from a2v_data.meerkat import MEERKAT_CLASSES
from pydantic import ValidationError

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"
BIRDNET = f"{RAVEN}\tCommon Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)"


def read(tmp_path: Path, name: str, *lines: str, encoding: str = "utf-8", sidecar: bool = True, **options) -> Table:
    path = tmp_path / name
    path.write_bytes("\n".join(lines).encode(encoding))
    return read_table(path, AnnotationConfig(**options), sidecar, MEERKAT_CLASSES)


def events(table: Table) -> list[tuple]:
    assert not table.problems and not any(row.problems for row in table.rows)
    return [(row.file, row.onset_s, row.offset_s, row.label) for row in table.rows if not row.silent]


def wrong(table: Table) -> list[str]:
    return [*table.problems, *(f"{row.place}: {problem}" for row in table.rows for problem in row.problems)]


# Raven


def test_raven_counts_a_selection_once_however_many_views_show_it(tmp_path: Path) -> None:
    table = read(
        tmp_path, "a.txt", f"{RAVEN}\tAnnotation\r",
        "1\tWaveform 1\t1\t0.5\t1.25\t0\t4000\tcc\r", "1\tSpectrogram 1\t1\t0.5\t1.25\t100.5\t4000\tcc\r",
        "2\tWaveform 1\t1\t2\t3\t0\t4000\tsn\r", "2\tWaveform 1\t2\t2\t3\t0\t4000\tsn\r",
        "3\tSpectrogram 1\t1\t2\t3\t0\t4000\tsn\r",
    )  # fmt: skip
    # whole numbers are times like others, and selection 3 is its own although it has the times of selection 2
    assert events(table) == [(None, 0.5, 1.25, "cc"), (None, 2.0, 3.0, "sn"), (None, 2.0, 3.0, "sn")]
    assert table.format == "raven" and table.doubled == 2 and table.rows[1].place == "rows 4 and 5"


def test_raven_tables_put_together_keep_selections_with_the_same_number(tmp_path: Path) -> None:
    rows = ["1\tSpectrogram 1\t1\t0.5\t1\t0\t4000\tcc"] * 2
    assert len(events(read(tmp_path, "a.txt", f"{RAVEN}\tAnnotation", *rows))) == 2


def test_raven_times_in_a_sequence_of_files_count_from_each_file(tmp_path: Path) -> None:
    header = f"{RAVEN}\tBegin File\tEnd File\tFile Offset (s)\tAnnotation"
    table = read(
        tmp_path, "all.txt", header,
        "1\tSpectrogram 1\t1\t0.5\t1.0\t0\t4000\tmonday.wav\tmonday.wav\t0.5\tcc",
        "2\tSpectrogram 1\t1\t62.25\t62.75\t0\t4000\ttuesday.wav\ttuesday.wav\t2.25\tcc",
        "3\tSpectrogram 1\t1\t119.5\t120.5\t0\t4000\ttuesday.wav\twednesday.wav\t59.5\tcc",
    )  # fmt: skip
    assert [(row.file, row.onset_s, row.offset_s) for row in table.rows[:2]] == [
        ("monday.wav", 0.5, 1.0),
        ("tuesday.wav", 2.25, 2.75),
    ]
    assert wrong(table) == ["row 4: the selection ends in another recording, 'wednesday.wav'; cut it at the border"]


def test_raven_refuses_times_of_several_files_without_their_offset(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"row 1: 2 recordings but no column File Offset \(s\).*add File Offset"):
        read(
            tmp_path, "all.txt", f"{RAVEN}\tBegin File\tAnnotation",
            "1\tS 1\t1\t0.5\t1.0\t0\t4000\ta.wav\tcc", "2\tS 1\t1\t60.5\t61\t0\t4000\tb.wav\tcc",
        )  # fmt: skip


def test_raven_without_end_time_uses_its_length(tmp_path: Path) -> None:
    table = read(tmp_path, "a.txt", "Begin Time (s)\tDelta Time (s)\tSpecies", "1.5\t0.25\tcc")
    assert events(table) == [(None, 1.5, 1.75, "cc")]


def test_raven_label_column_is_the_only_one_that_is_filled_or_the_chosen_one(tmp_path: Path) -> None:
    header = "Begin Time (s)\tEnd Time (s)\tAnnotation\tSpecies\tType"
    only = read(tmp_path, "a.txt", header, "1\t2\t\tWren\t")
    assert events(only)[0][3] == "Wren"
    with pytest.raises(TableError, match="columns Type and Species may all hold the class; choose one with label_col"):
        read(tmp_path, "a.txt", header, "1\t2\t\tWren\tsong")
    chosen = read(tmp_path, "a.txt", header, "1\t2\t\tWren\tsong", label_column="type")
    assert events(chosen)[0][3] == "song"
    with pytest.raises(TableError, match=r"row 1: no column Call \(the header has Begin Time \(s\), End Time"):
        read(tmp_path, "a.txt", header, "1\t2\t\tWren\tsong", label_column="Call")
    with pytest.raises(TableError, match=r"no column that holds the class .*label_column, or give default_label"):
        read(tmp_path, "a.txt", "Begin Time (s)\tEnd Time (s)", "1\t2")


def test_raven_labels_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    lines = ["Begin Time (s)\tEnd Time (s)\tAnnotation", "1\t2\tNA", "3\t4\t007", '5\t6\t"a" b']
    assert [event[3] for event in events(read(tmp_path, "a.txt", *lines))] == ["NA", "007", '"a" b']


# BirdNET


def test_birdnet_selection_table_and_csv(tmp_path: Path) -> None:
    row = "1\tSpectrogram 1\t1\t3.0\t6.0\t0\t12000\tEurasian Wren\twinwre4\t0.9123\t/home/u/rec/a.wav\t3.0"
    table = read(tmp_path, "a.BirdNET.selection.table.txt", BIRDNET, row)
    assert table.format == "birdnet" and table.windows
    assert events(table) == [("/home/u/rec/a.wav", 3.0, 6.0, "Eurasian Wren")]
    header = "\ufeffStart (s),End (s),Scientific name,Common name,Confidence,File"
    line = '0.0,3.0,Troglodytes troglodytes,"Wren, Eurasian",0.8,a.wav'
    table = read(tmp_path, "a.BirdNET.results.csv", header, line)
    assert table.windows and events(table) == [("a.wav", 0.0, 3.0, "Wren, Eurasian")]
    latin = read(tmp_path, "a.csv", header, line, label_column="Scientific name")
    assert events(latin) == [("a.wav", 0.0, 3.0, "Troglodytes troglodytes")]
    assert events(read(tmp_path, "old.csv", header.removesuffix(",File"), line.removesuffix(",a.wav")))[0][0] is None


def test_birdnet_no_call_is_no_event_but_says_that_the_recording_was_analysed(tmp_path: Path) -> None:
    table = read(tmp_path, "a.txt", BIRDNET, "1\tSpectrogram 1\t1\t0\t3\t0\t12000\tnocall\tnocall\t1.0\ta.wav\t0")
    assert events(table) == [] and [(row.file, row.silent) for row in table.rows] == [("a.wav", True)]


# Audacity and NIPS4Bplus


def test_audacity_with_frequencies_points_and_further_fields(tmp_path: Path) -> None:
    table = read(
        tmp_path, "a.txt", "0.1\t0.5\tcc", "\\\t100.0\t2000.0", "2.150000\t2.150000\tpoint label",
        "3\t6\tWren, song\t0.91", "", "7\t8",
    )  # fmt: skip
    assert events(table) == [
        (None, 0.1, 0.5, "cc"),
        (None, 2.15, 2.15, "point label"),
        (None, 3.0, 6.0, "Wren, song"),
        (None, 7.0, 8.0, ""),
    ]
    assert table.format == "audacity" and [row.place for row in table.rows] == ["row 1", "row 3", "row 4", "row 6"]


def test_nips4bplus_holds_durations_and_an_empty_table_is_a_silent_recording(tmp_path: Path) -> None:
    table = read(tmp_path, "annotation_train007.csv", "0.5,0.25,Sylcan_call", "1.5,2,Unknown\r", "")
    assert events(table) == [(None, 0.5, 0.75, "Sylcan_call"), (None, 1.5, 3.5, "Unknown")]
    assert read(tmp_path, "annotation_train008.csv", "\r").rows == []
    assert wrong(read(tmp_path, "annotation_train009.csv", "0.5,0.25")) == [
        "row 1: 2 fields; it must have starting time, duration, class"
    ]


# TextGrid: the same grid, long and short, as Praat writes them

TIERS = [
    ("IntervalTier", "calls", [(0, 0.5, ""), (0.5, 1e-05 + 0.5, 'say ""cc""'), (0.50001, 2.25, "  ")]),
    ("TextTier", "peaks", [(1.5, "p"), (2, "q")]),
]


def long_grid(tiers=TIERS) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", "xmax = 2.25 "]
    lines += ["tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]
    for number, (kind, name, entries) in enumerate(tiers, start=1):
        what = "intervals" if kind == "IntervalTier" else "points"
        lines += [f"    item [{number}]:", f'        class = "{kind}" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", "        xmax = 2.25 ", f"        {what}: size = {len(entries)} "]
        for count, entry in enumerate(entries, start=1):
            names = ("xmin", "xmax") if kind == "IntervalTier" else ("number",)
            lines.append(f"        {what} [{count}]:")
            lines += [f"            {key} = {value} " for key, value in zip(names, entry[:-1], strict=True)]
            lines.append(f'            {"text" if kind == "IntervalTier" else "mark"} = "{entry[-1]}" ')
    return "\n".join(lines) + "\n"


def short_grid(tiers=TIERS) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "2.25", "<exists>", str(len(tiers))]
    for kind, name, entries in tiers:
        lines += [f'"{kind}"', f'"{name}"', "0", "2.25", str(len(entries))]
        for entry in entries:
            lines += [*map(str, entry[:-1]), f'"{entry[-1]}"']
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("grid", [long_grid, short_grid])
def test_textgrid_long_and_short_in_the_encodings_that_praat_writes(tmp_path: Path, grid, encoding: str) -> None:
    text = grid().replace("peaks", "Gipfelpünktchen")
    table = read(tmp_path, "a.TextGrid", text, encoding=encoding, tier="calls")
    assert events(table) == [(None, 0.5, 0.50001, 'say "cc"')]
    points = read(tmp_path, "a.TextGrid", text, encoding=encoding, tier="Gipfelpünktchen")
    assert events(points) == [(None, 1.5, 1.5, "p"), (None, 2.0, 2.0, "q")]
    assert events(read(tmp_path, "a.TextGrid", text, encoding=encoding, tier=2)) == events(points)


def test_textgrid_rows_are_named_by_their_line(tmp_path: Path) -> None:
    row = read(tmp_path, "a.TextGrid", long_grid(), tier="calls").rows[0]
    line = long_grid().split("\n")[int(row.place.removeprefix("line ")) - 1]
    assert line.strip() == "xmin = 0.5"


def test_textgrid_exponents_line_breaks_comments_and_a_label_like_a_number(tmp_path: Path) -> None:
    text = short_grid([("IntervalTier", "t", [("1e-05", "5.0E-1", "two\nlines"), (1, "2.", "007")])])
    table = read(tmp_path, "a.TextGrid", text.replace("\n1\n", "\n1 ! one tier, 99\n", 1))
    assert events(table) == [(None, 1e-05, 0.5, "two lines"), (None, 1.0, 2.0, "007")]


def test_textgrid_tier_is_the_only_one_with_labels_or_must_be_chosen(tmp_path: Path) -> None:
    empty = ("IntervalTier", "notes", [(0, 2.25, "")])
    assert len(events(read(tmp_path, "a.TextGrid", long_grid([empty, TIERS[1]])))) == 2
    assert events(read(tmp_path, "a.TextGrid", long_grid([empty]))) == []
    listed = r"1: 'calls' \(intervals, 1 labels\), 2: 'peaks' \(points, 2 labels\)"
    with pytest.raises(TableError, match=rf"several tiers have labels \({listed}\); choose one with tier"):
        read(tmp_path, "a.TextGrid", long_grid())
    with pytest.raises(TableError, match=rf"no tier 'call' \(it has {listed}\); give a name or a number"):
        read(tmp_path, "a.TextGrid", long_grid(), tier="call")
    with pytest.raises(TableError, match="2 tiers are named 'calls'"):
        read(tmp_path, "a.TextGrid", long_grid([TIERS[0], TIERS[0]]), tier="calls")


def test_textgrid_cut_off_anywhere_is_told(tmp_path: Path) -> None:
    whole = short_grid()
    for end in range(1, len(whole) - 3):  # the last three characters are a closing quote and a line break
        with pytest.raises(TableError):
            read(tmp_path, "a.TextGrid", whole[:end], tier=1)
    with pytest.raises(TableError, match=r"ends after line 12, where a time should follow: it is cut off"):
        read(tmp_path, "a.TextGrid", *whole.split("\n")[:12], tier=1)
    with pytest.raises(TableError, match="is a binary TextGrid; in Praat choose Save as text file"):
        read(tmp_path, "a.TextGrid", "ooBinaryFile\x08TextGrid")


# MeerKAT's fields, as a pandas table gives them


def test_meerkat_fields_as_csv_and_parquet(tmp_path: Path) -> None:
    columns = {
        "file": ["a.wav", "b.wav"], "start_time_lbl": [0.1, 2], "end_time_lbl": [0.30000000000000004, 3.5],
        "start_frame_lbl": [800, 16000], "end_frame_lbl": [2400, 28000], "lbl": ["cc", "sn"], "lbl_cat": [3, 2],
        "foc": [1, 0],
    }  # fmt: skip
    want = [("a.wav", 0.1, 0.30000000000000004, "cc"), ("b.wav", 2.0, 3.5, "sn")]
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    table = read_table(tmp_path / "labels.parquet", AnnotationConfig(), False, MEERKAT_CLASSES)
    assert table.format == "meerkat" and events(table) == want and [row.focal for row in table.rows] == ["1", "0"]
    rows = [f"{at}," + ",".join(str(column[at]) for column in columns.values()) for at in range(2)]
    header = "," + ",".join(columns)  # the index that pandas writes has no name
    assert events(read(tmp_path, "labels.csv", header, *rows)) == want
    numbers = {name: values for name, values in columns.items() if name != "lbl"}
    pq.write_table(pa.table(numbers), tmp_path / "numbers.parquet")
    assert events(read_table(tmp_path / "numbers.parquet", AnnotationConfig(), False, MEERKAT_CLASSES)) == want
    pq.write_table(pa.table(numbers | {"lbl_cat": [3, 12]}), tmp_path / "numbers.parquet")
    table = read_table(tmp_path / "numbers.parquet", AnnotationConfig(), False, MEERKAT_CLASSES)
    assert wrong(table)[0].startswith("row 2: lbl_cat is '12'; it must be 0 to 11 (beep, synch, ")


def test_parquet_rows_of_lists_are_one_event_each(tmp_path: Path) -> None:
    columns = {"file": ["a.wav", "b.wav"], "start_time_lbl": [[0.0, 1.0], []], "end_time_lbl": [[0.5, 1.5], []]}
    pq.write_table(pa.table(columns | {"lbl": [["cc", "sn"], []]}), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", AnnotationConfig(), False, MEERKAT_CLASSES)
    assert events(table) == [("a.wav", 0.0, 0.5, "cc"), ("a.wav", 1.0, 1.5, "sn")]
    pq.write_table(pa.table(columns | {"lbl": [["cc"], []]}), tmp_path / "t.parquet")
    with pytest.raises(TableError, match=r"row 1: lists of \[1, 2\] entries; each must have one entry per event"):
        read_table(tmp_path / "t.parquet", AnnotationConfig(), False, MEERKAT_CLASSES)


def test_parquet_with_the_columns_of_the_csv(tmp_path: Path) -> None:
    columns = {"file": ["a.wav"], "onset_s": [1], "offset_s": [2.5], "label": ["cc"], "focal": [True]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", AnnotationConfig(), False)
    assert events(table) == [("a.wav", 1.0, 2.5, "cc")] and table.rows[0].focal == "True"


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    for name in ("labels.pkl", "labels.PICKLE"):
        (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
        with pytest.raises(TableError, match=r"never opened; export it .*to_parquet\('labels.parquet', index=False\)"):
            read_table(tmp_path / name, AnnotationConfig(), False)


# What is wrong is one line, with its row


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("a.txt", [""], "is empty; export it again"),
        ("a.TextGrid", [""], "is empty; export it again"),
        ("a.csv", ["a,b,c", "1,2,3"], "row 1 is 'a,b,c', the header of no known format"),
        ("a.txt", ["0.1;0.2;cc"], "row 1 is '0.1;0.2;cc'; the separator must be a comma (CSV) or a tab"),
        ("a.txt", ["0.1 0.2 cc"], "numbers without a header; add onset_s,offset_s,label, or name the format"),
        ("b.csv", ["0.1,0.2,cc"], "numbers without a header; add onset_s,offset_s,label, or name the format"),
        ("a.csv", ["onset_s,offset_s", "1,2"], "row 1: no column label (the header has onset_s, offset_s)"),
        ("a.csv", ["onset_s,onset_s,offset_s,label", "1,1,2,cc"], "row 1: column onset_s twice"),
        ("a.txt", ["Begin Time (s)\tBegin Time (s)\tEnd Time (s)\tSpecies"], "row 1: column Begin Time (s) twice"),
        ("a.txt", ["Begin Time (s)\tSpecies", "1\tcc"], "row 1: no column End Time (s) or Delta Time (s)"),
        ("a.csv", ["Start (s),Common name", "1,Wren"], "row 1: no column End (s) (the header has Start (s), Common"),
        ("a.csv", ["start_time_lbl,end_time_lbl", "1,2"], "row 1: no column lbl (the header has start_time_lbl"),
        ("a.txt", ["0.1\t0.2\tcc\0"], "holds NUL bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_whole_table_is_one_line(tmp_path: Path, name: str, lines: list[str], said: str) -> None:
    with pytest.raises(TableError) as caught:
        read(tmp_path, name, *lines)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("a.txt", ["0,5\t1\tcc"], "row 1: start is '0,5'; decimals need a point, not a comma"),
        ("a.txt", ["0.5\t1.0\tcc", "x\t1\tcc"], "row 2: start is 'x'; it must be a number of seconds"),
        ("a.txt", ["0.5\t1.0\tcc", "nan\t1\tcc"], "row 2: start is nan; it must be a finite number"),
        ("a.txt", ["0.5\t1.0\tcc", "1.5"], "row 2: one field; a label has start, end and text"),
        ("a.txt", ["Begin Time (s)\tEnd Time (s)\tSpecies", "1,5\t2\tcc"], "row 2: Begin Time (s) is '1,5'; decimals"),
        ("a.txt", ["Begin Time (s)\tEnd Time (s)\tSpecies", "1\t2"], "row 2: 2 fields, the header has 3; the row is"),
        ("a.csv", ["onset_s,offset_s,label", "1,5,2,5,cc"], "row 2: 5 fields, the header has 3; decimals need a p"),
        ("annotation_train001.csv", ["0.5,inf,cc"], "row 1: duration is inf; it must be a finite number"),
        ("a.csv", ["Start (s),End (s),Common name", "0,,Wren"], "row 2: End (s) is ''; it must be a number"),
        ("a.csv", ["start_time_lbl,end_time_lbl,lbl", ",1,cc"], "row 2: start_time_lbl is ''; it must be a number"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_and_its_neighbours_are_read(tmp_path: Path, name: str, lines: list[str], said: str):
    (problem,) = wrong(read(tmp_path, name, *lines))
    assert problem.startswith(said)
    good = sum(1 for row in read(tmp_path, name, *lines).rows if not row.problems)
    assert good == (1 if lines[0].startswith("0.5\t") else 0)


def test_encodings(tmp_path: Path) -> None:
    lines = ["onset_s,offset_s,label", "1,2,Grünling"]
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert events(read(tmp_path, "a.csv", *lines, encoding=encoding))[0][3] == "Grünling"
    with pytest.raises(TableError, match=r"row 2: not UTF-8; save it as UTF-8, or name its encoding \(Windows: cp1252"):
        read(tmp_path, "a.csv", *lines, encoding="cp1252")
    path = tmp_path / "a.csv"
    assert events(read_table(path, AnnotationConfig(encoding="cp1252"), True))[0][3] == "Grünling"
    path.write_bytes("1\t2\tcc".encode("utf-16")[:-1])
    with pytest.raises(TableError, match="not UTF-16"):
        read_table(path, AnnotationConfig(), True)


def test_a_folder_and_a_broken_parquet_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.txt").mkdir()
    (tmp_path / "x.parquet").mkdir()
    for name in ("x.txt", "x.parquet"):
        with pytest.raises(TableError, match="is a folder, not a table; rename it"):
            read_table(tmp_path / name, AnnotationConfig(), True)
    pq.write_table(pa.table({"a": [1] * 100}), tmp_path / "t.parquet")
    with pytest.raises(TableError, match="has the columns a; it must have file, start_time_lbl"):
        read_table(tmp_path / "t.parquet", AnnotationConfig(), True)
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-20])
    with pytest.raises(TableError, match="is not readable as Parquet"):
        read_table(tmp_path / "t.parquet", AnnotationConfig(), True)


def test_header_only_tables_hold_no_rows(tmp_path: Path) -> None:
    headers = {
        "a.csv": "file,onset_s,offset_s,label", "a.txt": f"{RAVEN}\tAnnotation", "b.txt": RAVEN,
        "c.csv": "Start (s),End (s),Scientific name,Common name,Confidence",
    }  # fmt: skip
    for name, header in headers.items():
        table = read(tmp_path, name, header)
        assert table.rows == [] and table.problems == []


def test_the_csv_may_have_its_class_in_another_column(tmp_path: Path) -> None:
    lines = ["file,onset_s,offset_s,species,label", "a.wav,1,2,wren,song"]
    assert events(read(tmp_path, "a.csv", *lines, label_column="species")) == [("a.wav", 1.0, 2.0, "wren")]
    assert events(read(tmp_path, "a.csv", *lines)) == [("a.wav", 1.0, 2.0, "song")]
    with pytest.raises(TableError, match=r"row 1: no column call .* name the column that holds the class"):
        read(tmp_path, "a.csv", *lines, label_column="call")


def test_format_option_goes_before_what_the_table_looks_like(tmp_path: Path) -> None:
    table = read(tmp_path, "a.csv", "1,2,cc", format="nips4bplus")
    assert events(table) == [(None, 1.0, 3.0, "cc")]
    assert detect(Path("monday.csv"), "file,onset_s,offset_s,label\n") == "csv"
    assert read(tmp_path, "silent.txt", "", format="audacity").rows == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoding": "utf-9"}, "no text encoding 'utf-9'"),
        ({"encoding": "base64"}, "no text encoding 'base64'"),
        ({"point_duration_s": 0}, "greater than 0"),
        ({"tables": []}, "must name at least one"),
        ({"label_column": " "}, "must not be empty"),
        ({"format": "rave"}, "'raven'"),
        ({"tear": 1}, "Extra inputs"),
    ],
)
def test_wrong_options_are_told(options: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AnnotationConfig(**options)
