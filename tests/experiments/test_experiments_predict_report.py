"""Figures and report of `a2v predict`: which events are drawn, and a page that stands alone."""

from __future__ import annotations

import csv
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from a2v_data.audio import read_info
from a2v_eval.events import EVENT
from a2v_experiments.predict.look import clock_text, event_panels, file_names, look
from a2v_experiments.predict.plan import Recording
from a2v_experiments.predict.state import Done, events_path, stamp_of
from experiments_predict import CLASSES, make_detector, save_detector, write_sound
from experiments_world import Said

A2v = Callable[..., Said]
FLOAT = ("--precision", "float32", "--processes", "1")
ODD = '<img src=x onerror=alert(1)> & "q" \u72d0.wav'
RATE = 1000


class Page(HTMLParser):
    """What a page refers to, its tags and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        keys = ("src", "href", "srcset", "data", "action", "poster", "background", "xlink:href")
        self.references += [value or "" for key, value in attrs if key in keys]
        assert not any(key.startswith("on") for key, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def kept(
    out: Path, recordings: dict[str, list[tuple[int, float, float, float]]], seconds: float = 10
) -> dict[str, Done]:
    """A folder as `a2v predict` leaves it, with events (class, onset, offset, likelihood); sample n of each recording
    is n / 20000, so that what is read of it says where it lies."""
    done = {}
    for name, rows in recordings.items():
        path = out / "sound" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = round(seconds * RATE)
        soundfile.write(path, np.arange(samples) / 20_000, RATE, subtype="FLOAT")
        events = np.zeros(len(rows), EVENT)
        for event, (class_, onset_s, offset_s, likelihood) in zip(events, rows, strict=True):
            event["class"], event["onset_s"], event["offset_s"], event["likelihood"] = (
                class_, onset_s, offset_s, likelihood,
            )  # fmt: skip
        events_path(out, name).parent.mkdir(parents=True, exist_ok=True)
        np.save(events_path(out, name), events)
        counts = {label: int((events["class"] == number).sum()) for number, label in enumerate(CLASSES)}
        stamp = stamp_of(Recording(name, path, read_info(path)), 0)
        done[name] = Done(name, str(path), stamp, RATE, samples, 1, counts, 1.0, 0.5)
    return done


def test_the_highest_events_of_each_class_over_all_recordings(tmp_path: Path):
    done = kept(
        tmp_path,
        {
            "a.wav": [(0, 1, 1.5, 0.5), (1, 2, 2.5, 0.99), (0, 3, 3.5, 0.9), (0, 5, 5.5, 0.7)],
            "b.wav": [(0, 1, 1.5, 0.8), (0, 2, 2.5, 0.7), (0, 4, 4.5, 0.1)],
            "c.wav": [],
        },
    )
    seen = look(tmp_path, done, CLASSES, 4)
    ranked = [(event.done.name, event.onset_s, event.likelihood) for event in seen.highest["cc"]]
    assert ranked == [("a.wav", 3, 0.9), ("b.wav", 1, 0.8), ("a.wav", 5, 0.7), ("b.wav", 2, 0.7)]
    assert [event.onset_s for event in seen.highest["sn"]] == [2]
    assert seen.found_in == {"cc": 2, "sn": 1}
    assert seen.activity is not None and not seen.activity.by_day
    assert seen.activity.counts.sum((1, 2)).tolist() == [4, 3, 0]


def test_what_is_drawn_is_read_from_where_the_event_is(tmp_path: Path):
    done = kept(tmp_path, {"a.wav": [(0, 4, 5, 0.9), (0, 0.25, 0.5, 0.8), (0, 9.5, 10, 0.7)]})
    middle, first, last = event_panels(look(tmp_path, done, CLASSES, 3).highest["cc"], 0, 8 * RATE)
    assert middle.sample_rate == RATE  # what is recorded lower than the model hears is not resampled
    for panel, from_s, to_s, onset_s in ((middle, 3, 6, 4), (first, 0, 1.875, 0.25), (last, 8.25, 10, 9.5)):
        assert panel.waveform is not None and panel.start_s == pytest.approx(from_s - onset_s)
        assert panel.waveform[0] == pytest.approx(from_s * RATE / 20_000, abs=1e-4)
        assert len(panel.waveform) == round((to_s - from_s) * RATE)
    assert middle.caption == ("a.wav", "at 0:04.00 · 0.900") and middle.duration_s == 1


def test_a_recording_that_changed_or_went_away_is_not_drawn(tmp_path: Path):
    done = kept(tmp_path, {"a.wav": [(0, 4, 5, 0.9)], "b.wav": [(0, 4, 5, 0.8)], "c.wav": [(0, 4, 5, 0.7)]})
    soundfile.write(done["a.wav"].path, np.zeros(20 * RATE), RATE)
    Path(done["b.wav"].path).unlink()
    panels = list(event_panels(look(tmp_path, done, CLASSES, 3).highest["cc"], 0, RATE))
    assert [panel.problem for panel in panels] == ["its file has changed", "its file cannot be read", ""]
    assert [panel.waveform is None for panel in panels] == [True, True, False]


def test_hours_are_those_of_names_with_a_time(tmp_path: Path):
    done = kept(
        tmp_path, {"20240618_235955.WAV": [(0, 1, 2, 0.5), (0, 4.9, 5.2, 0.5), (1, 5, 6, 0.5)], "x.wav": [(0, 1, 2, 1)]}
    )
    seen = look(tmp_path, done, CLASSES, 0)
    assert seen.activity is not None and seen.activity.by_day and seen.undated == ["x.wav"]
    assert seen.activity.rows == ("2024-06-18", "2024-06-19")
    assert seen.activity.counts[0, 23].tolist() == [2, 0] and seen.activity.counts[1, 0].tolist() == [0, 1]
    assert seen.activity.counts.sum() == 3
    (event,) = look(tmp_path, done, CLASSES, 1).highest["sn"]
    assert next(event_panels([event], 0, RATE)).caption[1] == "at 0:05.00 (00:00:00) · 0.500"


def test_times_and_file_names():
    assert [clock_text(seconds) for seconds in (0, 59.999, 3599.5, 3723.45, 86_400)] == [
        "0:00.00", "1:00.00", "59:59.50", "1:02:03.45", "24:00:00.00",
    ]  # fmt: skip
    names = file_names(["cc", "a/b", "a b", "CC", "..", "\u72d0"])
    assert names["cc"] == "events-cc.png" and names["a/b"] == "events-a_b.png"
    assert len({name.lower() for name in names.values()}) == 6 and not any("/" in name for name in names.values())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Model, recordings and a folder to predict into."""
    folder = tmp_path_factory.mktemp("report")
    model = save_detector(make_detector(folder), folder / "finch")
    for seed, name in enumerate(["20240618_235955.wav", ODD]):
        write_sound(folder / "rec" / name, 8.0, seed)
    (folder / "rec" / "<i>bad.wav").write_bytes(b"no sound")
    return model, folder / "rec", folder / "out"


def test_report_stands_alone_and_holds_names_as_text(a2v: A2v, made: tuple[Path, Path, Path]):
    model, recordings, out = made
    said = a2v("predict", recordings, "--model", model, "--out", out, *FLOAT, "--report", "--figures", "2")
    assert said.code == 1 and f"report, for any browser: {out / 'report.html'}" in said.out  # one was left out
    page = Page(out / "report.html")
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    pictures = [value for value in page.references if value.startswith("data:image/png;base64,")]
    assert len(pictures) == page.tags.count("img") == 1 + len(CLASSES)  # activity, and a strip of each class
    links = [unquote(value) for value in page.references if value not in pictures]
    assert {"#recordings", "events.csv", "recordings.csv", "raven", "figures"} <= set(links)
    assert all(value.startswith("#") or (out / value).exists() for value in links)
    source = (out / "report.html").read_text(encoding="utf-8")
    assert "http:" not in source and "https:" not in source and "url(" not in source and "@import" not in source
    assert ODD in page.text and "<i>bad.wav" in page.text and "i" not in page.tags
    assert "is not readable as audio" in page.text and "finch@" in page.text
    for path in [out / "figures" / name for name in ("activity.png", "events-cc.png", "events-sn.png")]:
        assert path.read_bytes()[:4] == b"\x89PNG"
    rows = list(csv.DictReader((out / "figures" / "activity.csv").read_text().splitlines()))
    assert [(row["day"], row["from_s"], row["recorded_s"]) for row in rows] == [
        ("2024-06-18", "82800", "5.0"), ("2024-06-19", "0", "3.0"),
    ]  # fmt: skip
    events = list(csv.DictReader((out / "events.csv").read_text().splitlines()))
    dated = [row for row in events if row["file"].startswith("2024") and row["label"] == "cc"]
    before = sum(float(row["onset_s"]) < 5 for row in dated)
    assert [int(row["cc"]) for row in rows] == [before, len(dated) - before] and 0 < before < len(dated)


def test_asked_again_it_is_made_again_and_nothing_is_predicted(a2v: A2v, made: tuple[Path, Path, Path]):
    model, recordings, out = made
    call = ("predict", recordings, "--model", model, "--out", out, *FLOAT)
    a2v(*call)
    kept_events = {path: path.stat().st_mtime_ns for path in (out / ".predict/events").iterdir()}
    for path in [out / "report.html", *(out / "figures").glob("*")]:
        path.unlink(missing_ok=True)
    said = a2v(*call)
    assert said.code == 1 and not (out / "report.html").exists() and not list((out / "figures").glob("*"))
    said = a2v(*call, "--report", "--figures", "1")
    assert said.code == 1 and "0 recordings done" in said.out and (out / "report.html").is_file()
    assert {path: path.stat().st_mtime_ns for path in (out / ".predict/events").iterdir()} == kept_events
    said = a2v(*call, "--report", "--figures", "0")
    assert Page(out / "report.html").tags.count("img") == 1  # activity alone


def test_a_report_of_nothing_says_so(a2v: A2v, made: tuple[Path, Path, Path], tmp_path: Path):
    said = a2v("predict", made[1] / "<i>bad.wav", "--model", made[0], "--out", tmp_path / "out", *FLOAT, "--report")
    assert said.code == 1 and "No recording was done" in Page(tmp_path / "out" / "report.html").text
