"""The review page's server over real HTTP, its clips against the recordings, and the lines that the command says."""

from __future__ import annotations

import csv
import http.client
import io
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
from a2v_experiments.review import desk as desk_module
from a2v_experiments.review.calls import Calls, Event, Recorded, item_id, open_calls
from a2v_experiments.review.clips import LONGEST_S, ROWS, Clips, pieces, read, spectrogram
from a2v_experiments.review.desk import Desk
from a2v_experiments.review.items import Filter, queue
from a2v_experiments.review.journal import open_journal, read_journal
from a2v_experiments.review.order import Stretch, stretch
from a2v_experiments.review.server import KINDS, Server

RATE = 8000
FILES = ["", *(name for name in KINDS if name != "index.html")]
ROUTES = [*FILES, "about", "state", "list", "next", "item", "clip.png", "clip.wav", "decide", "similar", "nothing"]
HOSTILE = "<img src=x onerror=alert(1)>.wav"


def recording_of(seconds: float, rate: int = RATE) -> np.ndarray:
    """Noise of 16 bit, which a WAV or FLAC file keeps exactly."""
    return np.random.default_rng(1).integers(-8000, 8000, int(seconds * rate)).astype(np.int16)


def make_folder(folder: Path, names: tuple[str, ...] = ("a.wav", "b.wav"), rate: int = RATE) -> tuple[Path, Path]:
    """Two recordings of 60 s with 3 events each, the likeliest first in the first."""
    audio = folder / "audio"
    audio.mkdir(parents=True)
    rows = []
    for number, name in enumerate(names):
        soundfile.write(audio / name, recording_of(60, rate), rate, subtype="PCM_16")
        rows += [
            [name, 10 * n + 5, 10 * n + 5.5, ("cc", "<b>sn</b>")[n % 2], 0.9 - 0.1 * n - 0.05 * number]
            for n in range(3)
        ]
    table = folder / "calls.csv"
    with table.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([["file", "onset_s", "offset_s", "label", "likelihood"], *rows])
    return table, audio


class Client:
    """A page of its own."""

    def __init__(self, address: str, page: str = "one") -> None:
        self.address, self.page = address, page

    def raw(self, path: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes, Any]:
        request = urllib.request.Request(self.address + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers

    def get(self, path: str) -> Any:
        code, body, _ = self.raw(path)
        assert code == 200, body
        return json.loads(body)

    def next(self, after: str = "", kept: str = "") -> Any:
        return self.get(f"next?page={self.page}&after={after}{kept}")

    def decide(self, item: dict[str, Any], verdict: str, /, **more: Any) -> tuple[int, Any]:
        values = {key: item[key] for key in ("kind", "label", "onset_s", "offset_s", "clip", "seen")}
        values |= {"shown": item["id"], "item": item["id"], "verdict": verdict, "page": self.page, "whole": True}
        body = json.dumps(values | more).encode()
        code, answer, _ = self.raw("decide", body, **{"Content-Type": "application/json"})
        return code, json.loads(answer)


@contextmanager
def serving(
    calls: Calls, order: str = "likelihood", windows: int = 0, slow: float | None = None, similar: Any = None
) -> Iterator[Client]:
    with open_journal(calls.folder) as journal:
        clips = Clips(calls.recordings, calls.channel, slow)
        desk = Desk(calls, journal, queue(calls, order, window_count=windows), clips, "ann", similar)
        server = Server(desk)
        thread = threading.Thread(target=server.run)
        thread.start()
        client = Client(server.address)
        client.clips = clips  # type: ignore[attr-defined]
        try:
            yield client
        finally:
            server.stop()
            thread.join(10)
            clips.close()
            assert not thread.is_alive()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with serving(open_calls(*make_folder(tmp_path)), windows=2) as found:
        yield found


def test_nothing_is_answered_without_the_token_or_by_another_name(client: Client) -> None:
    root, token = client.address[:-1].rsplit("/", 1)
    wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
    for base in (f"{root}/", f"{root}/{wrong}/", f"{root}/{token.lower() + 'x'}/", f"{root}//{token}/"):
        for route in [*ROUTES, "favicon.ico"]:
            for data in (None, b"{}"):
                code, body, _ = Client(base).raw(route, data)
                assert code == 403 and token.encode() not in body, (base, route)
    assert Client(f"{root}/{token}").raw("")[0] == 403
    port = root.rsplit(":", 1)[1]
    for route in ROUTES:
        for headers in ({"Host": "evil.example"}, {"Host": f"evil.example:{port}"}, {"Origin": "http://evil.example"}):
            assert client.raw(route, **headers)[0] == 403
    assert client.raw("about", Host=f"localhost:{port}")[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", int(port))
    connection.putrequest("GET", f"/{token}/about", skip_host=True)
    connection.endheaders()
    assert connection.getresponse().status in (400, 403)
    code, _, headers = client.raw("")
    assert code == 200 and "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"


def test_it_listens_on_this_machine_alone(client: Client) -> None:
    port = int(client.address.split(":")[2].split("/")[0])
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)} - {"127.0.0.1"}
    for other in others:
        with pytest.raises(OSError):
            socket.create_connection((other, port), timeout=2).close()


def test_decisions_are_kept_taken_back_and_do_not_overwrite_each_other(client: Client, tmp_path: Path) -> None:
    before = (tmp_path / "calls.csv").read_bytes()
    first = client.next()
    assert (first["file"], first["likelihood"], first["clip"]) == ("a.wav", 0.9, [4.0, 6.5])
    other = Client(client.address, "two")
    seen = other.get(f"item?id={first['id']}&page=two")
    code, answer = client.decide(first, "other", label="al", onset_s=5.1, offset_s=5.4)
    assert code == 200
    kept = read_journal(tmp_path / "calls.review").of(first["id"])
    assert kept is not None and (kept.verdict, kept.label, kept.onset_s, kept.offset_s) == ("other", "al", 5.1, 5.4)
    assert (kept.clip, kept.whole, kept.order, kept.reviewer) == ((4.0, 6.5), True, "likelihood", "ann")
    code, answer = other.decide(seen, "wrong", reviewer="bob")
    assert code == 409 and answer["decision"]["verdict"] == "other" and answer["decision"]["reviewer"] == "ann"
    code, answer = other.decide(seen, "wrong", reviewer="bob", seen=answer["decision"]["n"], onset_s=1)
    assert code == 200 and answer["line"]["reviewer"] == "bob"
    # of a wrong one nothing is corrected
    assert (answer["line"]["label"], answer["line"]["onset_s"]) == ("cc", 5.0)
    news = client.get("state?since=1&page=one&held=")["news"]
    assert [(one["item"], one["verdict"], one["by"]) for one in news] == [(first["id"], "wrong", "bob")]
    code, answer = client.decide(first, "undone", seen=2)
    assert code == 200 and answer["decision"]["verdict"] == "other"
    code, answer = client.decide(first, "undone", seen=3)
    assert code == 200 and answer["decision"] is None and answer["progress"]["decided"] == 0
    assert client.decide(first, "undone", seen=4)[0] == 400
    assert (tmp_path / "calls.csv").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "calls.review").iterdir()) == ["journal.jsonl"]


def test_missed_calls_are_drawn_moved_and_deleted(client: Client, tmp_path: Path) -> None:
    shown = client.next()
    code, answer = client.decide(shown, "right", kind="drawn", item="", label="new one", onset_s=4.5, offset_s=4.75)
    assert code == 200
    name = answer["line"]["item"]
    box = next(box for box in client.get(f"item?id={shown['id']}&page=one")["boxes"] if box["kind"] == "drawn")
    assert (box["id"], box["label"], box["onset_s"]) == (name, "new one", 4.5)
    assert "new one" in client.get("about")["classes"]
    moved = {"kind": "drawn", "item": name, "label": "new one", "onset_s": 4.6, "offset_s": 4.75}
    assert client.decide(shown, "right", **moved, seen=1)[0] == 200
    assert client.decide(shown, "removed", **moved, seen=2)[0] == 200
    assert all(box["kind"] == "event" for box in client.get(f"item?id={shown['id']}&page=one")["boxes"])
    assert client.decide(shown, "undone", **moved, seen=3)[0] == 200
    [standing] = read_journal(tmp_path / "calls.review").standing("drawn")
    assert (standing.onset_s, standing.file, standing.whole) == (4.6, "a.wav", False)


def test_stretches_are_seen_in_full_and_take_turns_with_events(client: Client) -> None:
    rows = client.get("list?first=0&count=100")["rows"]
    assert [row["kind"] for row in rows] == ["event"] * 4 + ["stretch"] + ["event"] * 2 + ["stretch"]
    item = client.get(f"item?id={rows[4]['id']}&page=one")
    assert item["boxes"] == [] and item["order"] == "windows" and item["clip"] == [item["onset_s"], item["offset_s"]]
    assert client.decide(item, "right")[0] == 400
    code, answer = client.decide(item, "seen", onset_s=0, offset_s=1)
    assert code == 200 and answer["line"]["onset_s"] == item["onset_s"] and answer["progress"]["decided"] == 1


def test_what_sounds_like_a_part_is_added_to_what_is_reviewed(tmp_path: Path) -> None:
    asked = []

    def similar(*span: Any) -> list[Stretch]:
        asked.append(span)
        return [stretch("b.wav", 20.0, 22.5), stretch("a.wav", 30.0, 32.5)]

    def search(client: Client, **span: Any) -> tuple[int, Any]:
        code, answer, _ = client.raw("similar", json.dumps(span).encode(), **{"Content-Type": "application/json"})
        return code, json.loads(answer)

    calls = open_calls(*make_folder(tmp_path))
    with serving(calls, similar=similar) as client:
        item = client.next()
        assert search(client, item=item["id"], **{"from": 1, "to": 5})[0] == 400
        code, found = search(client, item=item["id"], **{"from": 5, "to": 5.5})
        assert code == 200 and asked == [("a.wav", 5.0, 5.5)]
        assert [row["order"] for row in found] == ["search", "search"] and found[0]["file"] == "b.wav"
        shown = client.get(f"item?id={found[0]['id']}&page=one")
        assert shown["clip"] == [20.0, 22.5] and shown["kind"] == "stretch"
        assert client.decide(shown, "seen")[1]["progress"]["total"] == 8
        listed = client.get("list?first=0&count=9&label=%00stretches")
        assert [row["verdict"] for row in listed["rows"]] == ["seen", None]
    with serving(calls) as client:
        code, found = search(client, item=client.next()["id"], **{"from": 5, "to": 5.5})
        assert code == 400 and "--model" in found["error"]


def test_two_pages_get_different_items(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    two = Client(client.address, "two")
    first, second = client.next(), two.next()
    assert first["id"] != second["id"]
    third = client.next(first["id"])
    assert third["id"] not in (first["id"], second["id"])
    assert two.next(third["id"])["id"] not in (second["id"], third["id"])
    assert client.get("state?since=0&page=one&held=" + third["id"])["n"] == 0
    monkeypatch.setattr(desk_module, "HELD_S", -1.0)
    order = [row["id"] for row in client.get("list?first=0&count=9")["rows"]]
    assert Client(client.address, "three").next()["id"] == order[0]


def test_the_list_is_filtered_and_leads_on(client: Client) -> None:
    cc = [row["label"] for row in client.get("list?first=0&count=9&label=cc")["rows"]]
    assert cc == ["cc"] * 4
    listed = client.get("list?first=0&count=9&low=0.75&high=0.85")["rows"]
    assert sorted(row["likelihood"] for row in listed) == pytest.approx([0.75, 0.8, 0.85])
    assert {row["file"] for row in client.get("list?first=0&count=9&file=B.W")["rows"]} == {"b.wav"}
    assert client.get("list?first=2&count=1&label=cc")["total"] == 4
    shown = client.next("", "&label=cc&file=a.wav")
    client.decide(shown, "right")
    assert client.get("list?first=0&count=9&label=cc&undecided=1")["total"] == 3
    again = client.next(shown["id"], "&label=cc&file=a.wav")
    assert again["id"] != shown["id"] and client.decide(again, "unsure")[0] == 200
    assert client.get(f"next?page=one&after={again['id']}&label=cc&file=a.wav") is None
    progress = client.get("state?since=0&page=one&held=")["progress"]
    assert progress["decided"] == 2 and progress["total"] == 8
    assert (progress["classes"]["cc"]["decided"], progress["classes"]["cc"]["right"]) == (1, 1)  # unsure is apart


def test_sound_is_the_recording_and_slowed_down_by_its_rate_alone(tmp_path: Path) -> None:
    table, audio = make_folder(tmp_path, rate=RATE)
    samples = recording_of(60).astype(np.float64)
    with serving(open_calls(table, audio), slow=4) as client:
        item = client.next()
        code, body, headers = client.raw(f"clip.wav?id={item['id']}&from=4.0&to=6.5")
        assert code == 200
        heard, rate = soundfile.read(io.BytesIO(body), dtype="int16")
        part = samples[4 * RATE : int(6.5 * RATE)]
        gain = 0.89 * 32768 / np.abs(part).max()
        assert rate == RATE / 4
        np.testing.assert_array_equal(heard, np.rint(part / 32768 * gain * 32767).astype(np.int16))
        assert float(headers["X-Gain-dB"]) == pytest.approx(20 * np.log10(gain), abs=0.006)
        assert client.raw(f"clip.wav?id={item['id']}&from=0&to=6.5")[0] == 400
        assert client.raw("clip.wav?id=none&from=0&to=6.5")[0] == 404


def test_ultrasound_is_played_ten_times_slower_unless_told_otherwise(tmp_path: Path) -> None:
    recorded = {"bat.wav": Recorded("bat.wav", tmp_path / "bat.wav", 1.0, 384_000, 1)}
    assert Clips(recorded, 0).slow("bat.wav") == 10 and Clips(recorded, 0, 1.0).slow("bat.wav") == 1


def test_a_channel_or_the_mean_of_all_is_read_in_the_middle_of_a_flac(tmp_path: Path) -> None:
    both = np.stack([recording_of(30), recording_of(30)[::-1]], 1)
    soundfile.write(tmp_path / "a.flac", both, RATE, subtype="PCM_16")
    part = both[20 * RATE : 21 * RATE] / np.float32(32768)
    second, rate = read(tmp_path / "a.flac", 1, 20, 21)
    mean, _ = read(tmp_path / "a.flac", "mix", 20, 21)
    assert rate == RATE
    np.testing.assert_array_equal(second, part[:, 1])
    np.testing.assert_allclose(mean, part.mean(1), atol=1e-7)


@pytest.mark.parametrize("rate, hertz", [(8000, 1000), (48_000, 12_000), (384_000, 90_000), (2000, 200)])
def test_a_tone_is_where_its_frequency_is(rate: int, hertz: float) -> None:
    seconds = 0.5
    time_N = np.arange(int(rate * seconds)) / rate
    tone_N = np.sin(2 * np.pi * hertz * time_N) * ((time_N > 0.2) & (time_N < 0.3))
    noise_N = 1e-3 * np.random.default_rng(0).standard_normal(len(time_N))
    level_RK = spectrogram((tone_N + noise_N).astype(np.float32), rate)
    columns = level_RK.shape[1]
    within = level_RK[:, int(0.22 / seconds * columns) : int(0.28 / seconds * columns)].astype(float).mean(1)
    assert abs(ROWS - 1 - int(np.argmax(within)) - hertz / (rate / 2) * ROWS) <= 2
    row = level_RK[int(np.argmax(within))].astype(float)
    loud = np.flatnonzero(row > 0.75 * row.max()) / columns * seconds
    assert loud.min() == pytest.approx(0.2, abs=0.02) and loud.max() == pytest.approx(0.3, abs=0.02)


def test_the_picture_is_a_png_and_long_parts_come_in_pieces(client: Client) -> None:
    from matplotlib.image import imread

    item = client.next()
    code, body, headers = client.raw(f"clip.png?id={item['id']}&from=4.0&to=6.5")
    assert code == 200 and headers["Content-Type"] == "image/png" and "max-age" in headers["Cache-Control"]
    assert imread(io.BytesIO(body)).shape[:2] == (ROWS, 1200)
    found = pieces(10.0, 110.0)
    assert found[0][0] == 10 and found[-1][1] == 110 and len(found) == 4
    assert all(stop - start <= LONGEST_S for start, stop in found)


def test_the_next_three_clips_are_made_ahead(client: Client) -> None:
    item = client.next()
    clips = client.clips  # type: ignore[attr-defined]
    until = time.monotonic() + 10
    while clips.made < 4 and time.monotonic() < until:
        time.sleep(0.02)
    assert clips.made == 4 and len(item["ahead"]) == 3
    for one in item["ahead"]:
        [[start, stop]] = one["pieces"]
        assert client.raw(f"clip.wav?id={one['id']}&from={start}&to={stop}")[0] == 200
    assert clips.made == 4
    assert client.next(item["id"])["id"] == item["ahead"][0]["id"]


def test_hostile_names_pass_as_text(tmp_path: Path) -> None:
    other = '"><svg onload=alert(2)> \u2028 e\u0301.wav'
    with serving(open_calls(*make_folder(tmp_path, (HOSTILE, other)))) as client:
        rows = client.get("list?first=0&count=9")["rows"]
        assert {row["file"] for row in rows} == {HOSTILE, other} and "<b>sn</b>" in client.get("about")["classes"]
        for row in rows:
            assert client.decide(client.get(f"item?id={row['id']}&page=one"), "right")[0] == 200
        assert client.decide(client.get(f"item?id={rows[0]['id']}&page=one"), "other", label="\ud800")[0] == 400
        assert client.decide(client.get(f"item?id={rows[0]['id']}&page=one"), "other", label="a\nb")[0] == 400
        for file in FILES:
            code, body, _ = client.raw(file)
            assert code == 200 and b"innerHTML" not in body and b"<b>sn" not in body
    assert {line.file for line in read_journal(tmp_path / "calls.review").lines} == {HOSTILE, other}


@pytest.mark.parametrize(
    "body, kind, code",
    [
        (b"{" + b" " * 70_000 + b"}", "application/json", 413),
        (b"{}", "text/plain", 415),
        (b"[]", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b"{}", "application/json", 404),
    ],
)
def test_what_no_page_sends_is_refused(client: Client, body: bytes, kind: str, code: int) -> None:
    assert client.raw("decide", body, **{"Content-Type": kind})[0] == code


@pytest.mark.parametrize("chunk", [b"zz\r\n\r\n", b'{"a":' * 9000])
def test_what_is_no_http_ends_without_a_traceback(
    client: Client, chunk: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A body in chunks, of which the first is none: uvicorn answers, and the route's answer has nobody to go to."""
    place = urlsplit(client.address)
    head = f"POST {place.path}decide HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n"
    with socket.create_connection((str(place.hostname), place.port), timeout=20) as connection:
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
        assert b" 400 " in connection.recv(1 << 16).partition(b"\r\n")[0]
    assert client.get("about")["total"] > 0
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    "change", [{"verdict": "seen"}, {"onset_s": -1}, {"onset_s": float("nan")}, {"offset_s": "x"}, {"seen": [1]},
               {"kind": "bird"}, {"onset_s": 5.5, "offset_s": 5.5}, {"clip": [3, 1]}, {"clip": 7}]
)  # fmt: skip
def test_a_decision_that_cannot_be_is_not_written(client: Client, tmp_path: Path, change: dict[str, Any]) -> None:
    item = client.next()
    assert client.decide(item, "right", **change)[0] == 400
    assert read_journal(tmp_path / "calls.review").lines == []


def test_a_recording_that_cannot_be_read_any_more_says_so(client: Client, tmp_path: Path) -> None:
    item = client.next()
    (tmp_path / "audio" / "b.wav").unlink()
    other = next(row for row in client.get("list?first=0&count=9")["rows"] if row["file"] == "b.wav")
    client.clips._kept.clear()  # type: ignore[attr-defined]
    code, body, _ = client.raw(f"clip.png?id={other['id']}&from={other['onset_s']}&to={other['onset_s'] + 0.4}")
    assert code == 422 and "cannot be shown" in json.loads(body)["error"]
    assert client.decide(item, "right")[0] == 200


def test_a_hundred_thousand_events_are_listed_and_decided_at_once(tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(100)]
    recorded = {name: Recorded(name, tmp_path / name, 3600.0, RATE, 1) for name in names}
    events = tuple(
        Event(item_id(name, "cc", float(n)), name, "cc", float(n), n + 0.5, (n % 997) / 997)
        for name in names
        for n in range(1000)
    )
    calls = Calls(tmp_path, tmp_path / "review", events, recorded, ("cc",))
    with open_journal(calls.folder) as journal:
        clips = Clips(recorded, 0)
        clips.close()
        desk = Desk(calls, journal, queue(calls, "likelihood"), clips, "")
        clips.prepare = lambda spans: None  # type: ignore[method-assign]
        kept = Filter(low=0.2, undecided=True)
        desk.listing(kept, 0, 100)
        begun = time.process_time()
        found = desk.next("one", "", kept)
        assert found is not None
        desk.decide({"shown": found["id"], "item": found["id"], "kind": "event", "verdict": "right",
                     "onset_s": found["onset_s"], "offset_s": found["offset_s"]})  # fmt: skip
        after = desk.next("one", found["id"], kept)
        assert after is not None and desk.listing(kept, 50_000, 100)["rows"]
        spent = time.process_time() - begun
    assert spent < 1.5


def test_the_command_says_in_a_line_what_is_wrong(tmp_path: Path, a2v: Any) -> None:
    table, audio = make_folder(tmp_path)
    assert "give --recordings" in a2v("review", table).only_line()
    assert (
        "--class zz: is not among the classes"
        in a2v("review", table, "--recordings", audio, "--class", "zz").only_line()
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = a2v("review", table, "--recordings", audio, "--no-browser", "--port", port)
        assert said.code == 1 and said.only_line() == f"--port {port}: is taken; give another --port, or none"
    with open_journal(tmp_path / "calls.review"):
        said = a2v("review", table, "--recordings", audio, "--no-browser")
        assert said.code == 2 and "another `a2v review`" in said.only_line()
    assert "no such" in a2v("review", tmp_path / "nothing").only_line()


def test_help_shows_the_page_and_the_other_commands(a2v: Any) -> None:
    said = a2v("review", "--help")
    assert said.code == 0 and all(word in said.out for word in ("CALLS", "--no-browser", "--windows", "Commands"))
    assert a2v("review", "page", "--help").out.count("--windows") == 1
    assert "--recordings" in a2v("review", "some/where", "--help").out
