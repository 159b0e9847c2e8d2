"""The review page in a browser: ten events reviewed by keyboard and mouse, the server killed in between."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.sources import open_source
from a2v_experiments.review.calls import open_calls
from a2v_experiments.review.export import export
from a2v_experiments.review.journal import read_journal
from experiments_review import make_calls

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium (apt install chromium)")


class Review:
    """The command as a process."""

    def __init__(self, table: Path, audio: Path, *options: str) -> None:
        command = [sys.executable, "-m", "a2v_experiments", "review", str(table), "--recordings", str(audio)]
        self.process = subprocess.Popen(
            [*command, "--no-browser", *(options or ("--reviewer", "ann"))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""
        assert self.process.stdout is not None and self.process.stderr is not None
        while "Ctrl-C" not in self.said:
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
            self.said += line
        self.address = re.findall(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", self.said)[0]

    def end(self, number: signal.Signals) -> str:
        self.process.send_signal(number)
        return self.process.communicate(timeout=30)[0]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Review]]:
    """Starts the command on recordings of a minute; whatever still runs in the end is killed."""
    table, audio = make_calls(tmp_path, minutes=1)
    started: list[Review] = []

    def run(*options: str) -> Review:
        started.append(Review(table, audio, *options))
        return started[-1]

    yield run
    for review in started:
        review.process.kill()
        review.process.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.wrong.append(message.text))
    page.goto(address)
    shown(page)
    yield page
    context.close()


def shown(page: Any, before: str | None = None) -> str:
    """The item on the screen, once it is another one than before and its picture is there."""
    page.wait_for_function(
        "before => document.body.dataset.shown && document.body.dataset.shown !== before"
        " && document.querySelector('#picture img')?.complete",
        arg=before,
    )
    return str(page.evaluate("document.body.dataset.shown"))


def press(page: Any, key: str) -> str:
    """Press a key that leads on; what is shown then."""
    before = shown(page)
    page.keyboard.press(key)
    return shown(page, before)


def drag(page: Any, start: tuple[float, float], stop: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + stop[0]) / 2, stop[1])
    page.mouse.move(*stop)
    page.mouse.up()


def free_place(page: Any) -> tuple[float, float, float]:
    """x from, x to, y of the widest part of the picture without a box."""
    layer = page.locator("#layer").bounding_box()
    boxes = [one.bounding_box() for one in page.locator("#layer .box").all()]
    taken = sorted([(box["x"] - 14, box["x"] + box["width"] + 14) for box in boxes])
    edges = [layer["x"], *(edge for pair in taken for edge in pair), layer["x"] + layer["width"]]
    low, high = max(zip(edges[::2], edges[1::2], strict=True), key=lambda pair: pair[1] - pair[0])
    return low + 4, min(high - 4, low + 100), layer["y"] + layer["height"] / 2


def test_ten_events_are_reviewed_with_keys_and_mouse_and_a_killed_server_loses_none(
    browser: Any, tmp_path: Path, start: Callable[..., Review]
) -> None:
    table = tmp_path / "calls.csv"
    before = table.read_bytes()
    folder = tmp_path / "calls.review"
    review = start()
    with opened(browser, review.address) as page:
        first = shown(page)
        press(page, "1")
        second = shown(page)
        press(page, "n")
        press(page, "4")
        third_last = shown(page)
        page.keyboard.press("3")
        page.keyboard.type("hyena")  # a class that no prediction has
        page.keyboard.press("Enter")
        shown(page, third_last)
        state = read_journal(folder)
        assert [line.verdict for line in state.lines] == ["right", "wrong", "unsure", "other"]
        assert (state.lines[0].item, state.lines[1].item, state.lines[3].label) == (first, second, "hyena")
        # an edge is dragged, saved with the decision
        item = shown(page)
        edge = page.locator(".box.selected .edge.right").bounding_box()
        box = page.locator(".box.selected").bounding_box()
        layer = page.locator("#layer").bounding_box()
        middle = (edge["x"] + 3, edge["y"] + edge["height"] / 2)
        drag(page, middle, (middle[0] + 60, middle[1]))
        press(page, "y")
        corrected = read_journal(folder).of(item)
        assert corrected is not None and corrected.clip is not None and corrected.verdict == "right"
        per_pixel = (corrected.clip[1] - corrected.clip[0]) / layer["width"]
        predicted = corrected.clip[0] + (box["x"] + box["width"] - layer["x"]) * per_pixel
        assert corrected.offset_s - predicted == pytest.approx(60 * per_pixel, abs=6 * per_pixel)
        # a missed call is drawn: the class of the item is offered, Enter takes it
        item, label = shown(page), page.locator("#name").inner_text()
        low, high, y = free_place(page)
        drag(page, (low, y), (high, y))
        page.keyboard.press("Enter")
        page.wait_for_selector(".box.drawn")
        [drawn] = read_journal(folder).standing("drawn")
        assert drawn.label == label and drawn.offset_s > drawn.onset_s and shown(page) == item
        page.keyboard.press("Delete")
        page.wait_for_selector(".box.drawn", state="detached")
        page.keyboard.press("z")
        page.wait_for_selector(".box.drawn")
        assert len(read_journal(folder).standing("drawn")) == 1
        lines = len(read_journal(folder).lines)
        review.end(signal.SIGKILL)
        page.keyboard.press("1")
        page.wait_for_selector("#toast.shown.bad")  # and nothing seems to be decided
        assert shown(page) == item and len(read_journal(folder).lines) == lines
        page.wrong = [one for one in page.wrong if "ERR_CONNECTION_REFUSED" not in one]
        assert page.wrong == []
    review = start()
    assert "wait" in review.said
    with opened(browser, review.address) as page:
        assert shown(page) == item and page.locator(".box.drawn").count() == 1
        assert page.locator("#decided").inner_text().startswith("5 of ")
        press(page, "1")
        press(page, "2")
        press(page, "ArrowLeft")
        assert page.locator("#verdict").inner_text().startswith("✗ wrong · ann")
        page.keyboard.press("z")
        page.wait_for_function("() => document.getElementById('decided').textContent.startsWith('6 of')")
        page.wait_for_function("() => document.getElementById('verdict').textContent === ''")
        press(page, "y")
        # filters: only this class, from the list by mouse
        page.select_option("#label", "cc")
        page.check("#undecided")
        page.wait_for_function(
            "() => [...document.querySelectorAll('.row .label')].every(one => one.textContent === 'cc')"
        )
        rows = page.locator("aside .row").count()
        chosen = shown(page)
        page.locator("aside .row:not(.now)").nth(1).click()
        shown(page, chosen)
        assert page.evaluate("document.activeElement.id") == "view"
        press(page, "1")
        page.wait_for_function("count => document.querySelectorAll('aside .row').length < count", arg=rows)
        for _ in range(2):
            press(page, "2")
        page.keyboard.press("Space")
        page.wait_for_function("() => document.querySelector('.head').style.display === 'block'")
        page.keyboard.press("+")
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.id") == "view"
        assert page.wrong == []
    told = review.end(signal.SIGINT)
    assert review.process.returncode == 0 and "1 drawn" in told and "a2v review export" in told
    state = read_journal(folder)
    assert len(state.standing("event")) == 10
    assert {one.verdict for one in state.standing("event")} == {"right", "wrong", "other", "unsure"}
    assert [one.order for one in state.standing("event")].count("chosen") == 1
    assert {line.reviewer for line in state.lines} == {"ann"}
    assert table.read_bytes() == before
    # what was decided becomes labels
    calls = open_calls(table, tmp_path / "audio")
    source = open_source(export(calls, tmp_path / "reviewed").folder, AnnotationConfig())
    found = source.annotations()
    kept = [one for kind in ("event", "drawn") for one in state.standing(kind) if one.verdict in ("right", "other")]
    named = sorted((row.file, round(row.onset_s, 3), row.label) for row in found.rows if row.label != "?")
    assert named == sorted((one.file, round(one.onset_s, 3), one.label) for one in kept)
    assert sum(row.label == "?" for row in found.rows) >= 1 and "hyena" in {row.label for row in found.rows}
    assert found.regions is not None and set(found.regions) == {one.file for one in state.lines}


def test_two_pages_do_not_overwrite_each_other_and_stretches_are_seen_in_full(
    browser: Any, tmp_path: Path, start: Callable[..., Review]
) -> None:
    folder = tmp_path / "calls.review"
    review = start("--windows", "2", "--reviewer", "ann")
    with opened(browser, review.address) as one, opened(browser, review.address) as two:
        item = shown(one)
        assert shown(two) != item
        other = shown(two)
        two.locator("aside .row").first.click()  # what the first page is at
        assert shown(two, other) == item
        press(one, "1")
        two.keyboard.press("2")
        two.wait_for_selector("#conflict[open]")
        assert "ann decided “right”" in two.locator("#conflict-text").inner_text()
        assert len(read_journal(folder).lines) == 1
        two.keyboard.press("r")
        two.wait_for_selector("#conflict", state="hidden")
        shown(two, item)
        assert [line.verdict for line in read_journal(folder).lines] == ["right", "wrong"]
        one.wait_for_function("() => document.querySelector('aside .row.wrong')")  # what others decide shows up
        two.select_option("#label", label="stretches")
        window = press(two, "ArrowRight")
        low, high, y = free_place(two)
        drag(two, (low, y), (high, y))
        two.keyboard.type("c")
        two.keyboard.press("Enter")
        two.wait_for_selector(".box.drawn")
        press(two, "Enter")
        seen = read_journal(folder).of(window)
        assert seen is not None and (seen.verdict, seen.whole, seen.order) == ("seen", True, "windows")
        assert one.wrong == []
        assert [said for said in two.wrong if "409" not in said] == []
    review.end(signal.SIGINT)


def test_names_are_shown_and_never_run(browser: Any, tmp_path: Path) -> None:
    name, label = "<img src=x onerror=document.title='run'>.wav", "<script>document.title='run'</script>"
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / name, np.random.default_rng(0).normal(0, 0.1, 8000 * 8), 8000)
    table = tmp_path / "calls.csv"
    rows = [
        ["file", "onset_s", "offset_s", "label", "likelihood"],
        [name, 2, 2.5, label, 0.9],
        [name, 4, 4.2, "cc", 0.8],
    ]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    review = Review(table, tmp_path / "audio", "--reviewer", "<b>ann</b>")
    try:
        with opened(browser, review.address) as page:
            assert page.locator("#name").inner_text() == label and name in page.locator("#where").inner_text()
            assert page.locator(".box.selected .tag").inner_text() == label
            press(page, "1")
            press(page, "ArrowLeft")
            assert page.locator("#verdict").inner_text() == "✓ right · <b>ann</b>"
            page.keyboard.press("3")
            assert label in page.locator("#chooser-list").inner_text()
            page.keyboard.press("Escape")
            page.select_option("#label", label)
            page.wait_for_function("() => document.querySelectorAll('aside .row').length === 1")
            assert page.title() == "a2v review" and page.locator("[src=x], b b, body script").count() == 0
            assert page.wrong == []
    finally:
        review.process.kill()
        review.process.communicate()


def test_corrected_edges_stay_when_a_missed_call_is_drawn_before_the_decision(
    browser: Any, tmp_path: Path, start: Callable[..., Review]
) -> None:
    review = start()
    with opened(browser, review.address) as page:
        item = shown(page)
        edge = page.locator(".box.selected .edge.left").bounding_box()
        at = (edge["x"] + edge["width"] - 2, edge["y"] + edge["height"] / 2)
        drag(page, at, (at[0] - 40, at[1]))
        moved = page.locator(".box.selected").bounding_box()["x"]
        low, high, y = free_place(page)
        drag(page, (low, y), (high, y))
        page.keyboard.press("Enter")
        page.wait_for_selector(".box.drawn")
        assert page.locator(".box.selected").bounding_box()["x"] == pytest.approx(moved, abs=1)
        press(page, "1")
    decided = read_journal(tmp_path / "calls.review").of(item)
    assert decided is not None
    with (tmp_path / "calls.csv").open() as file:
        onsets = [float(row["onset_s"]) for row in csv.DictReader(file)]
    assert min(abs(decided.onset_s - onset) for onset in onsets) > 0.01
