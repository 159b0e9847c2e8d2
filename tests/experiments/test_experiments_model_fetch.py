"""`a2v model fetch` against a local repository that speaks the Dataverse API: what it downloads, checks and says."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from a2v_experiments.commands import model_fetch
from a2v_experiments.published import dataverse, download
from a2v_experiments.recipe.files import load_recipe
from a2v_model import load_model
from experiments_dataverse import Repository, serving
from experiments_world import Said

GOLDENS = Path(__file__).parent.parent / "model" / "goldens"
PRETRAINED = (GOLDENS / "tiny_fairseq_ckpt_pretrain_dictconfig_fp16.pt").read_bytes()
FINETUNED = (GOLDENS / "tiny_fairseq_ckpt_finetuned_dictconfig_fp16.pt").read_bytes()
BIG, SMALL = "animal2vec_large_finetuned_MeerKAT_240507.pt", "animal2vec_large_pretrained_MeerKAT_240507.pt"
LIST = "/api/datasets/:persistentId/"
FILE, STORE = "/api/access/datafile/253220", "/store/253220"
BY_HAND = (
    "; by hand: download the meerkat-pretrained checkpoint from https://doi.org/10.17617/3.ETPUKU in a browser, then "
)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WAITS_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(download, "BLOCK_BYTES", 1 << 14)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serving(Repository({BIG: FINETUNED, SMALL: PRETRAINED, "README.md": b"weights"})) as served:
        yield served


@pytest.fixture
def fetch(a2v: Callable[..., Said], repository: Repository, tmp_path: Path) -> Callable[..., Said]:
    def call(name: str = "meerkat-pretrained", *options: object) -> Said:
        return a2v("model", "fetch", name, "--from", repository.uri, "--work", tmp_path / "work", *options)

    return call


@pytest.fixture
def transfer(fetch: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`fetch` without the import at its end, which takes longest."""
    monkeypatch.setattr(model_fetch, "import_into", lambda *arguments, **named: None)
    return fetch


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    folder = tmp_path / "work" / "downloads"
    folder.mkdir(parents=True)
    return folder


def test_it_says_the_terms_downloads_imports_and_says_what_is_next(fetch: Any, repository: Any, tmp_path: Path) -> None:
    said = fetch()
    model, file = tmp_path / "work" / "models" / "meerkat-pretrained", tmp_path / "work" / "downloads" / SMALL
    assert said.code == 0 and said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == f"{SMALL} (0.2 MB), doi:10.17617/3.ETPUKU"
    assert lines[1] == "  licence   CC BY-NC 4.0 https://creativecommons.org/licenses/by-nc/4.0"
    cite = "Doe, Jane; Roe, Richard (2024), Model weights of animal2vec, Edmond, https://doi.org/10.17617/3.ETPUKU, V2"
    assert lines[2] == f"  cite      {cite}" and lines[3] == "  and       arXiv 2406.01253"
    assert "29,602" in said.out and f"--model {model} --out MINE" in said.out
    assert f"--set model=meerkat --set data.sample_rate=8000 --set pretrain=null --set backbone={model}\n" in said.out
    assert " predict " not in said.out  # it has no classes yet
    assert lines[-1] == f"no longer needed: {file}, 0.2 MB"
    assert repository.asked == [LIST, FILE, STORE]
    assert file.read_bytes() == PRETRAINED and os.listdir(file.parent) in (
        ["sha256.json", SMALL],
        [SMALL, "sha256.json"],
    )
    digest = hashlib.sha256(PRETRAINED).hexdigest()
    memory = json.loads((file.parent / "sha256.json").read_text())
    assert memory == {f"doi:10.17617/3.ETPUKU/{SMALL}": digest}
    published = json.loads((model / "model.json").read_text())["extra"]["published"]
    assert published["citation"] == cite and published["sha256"] == digest and "BY-NC" in published["licence"]


def test_the_finetuned_one_finds_calls(fetch: Any, a2v: Any, tmp_path: Path) -> None:
    said = fetch("meerkat-finetuned")
    model = tmp_path / "work" / "models" / "meerkat-finetuned"
    assert said.code == 0 and f"predict RECORDINGS --model {model} --out CALLS" in said.out
    assert load_model(model).classes == ["aa", "bb", "cc", "focal"]
    info = a2v("model", "info", model).out
    assert "doi:10.17617/3.ETPUKU" in info and "CC BY-NC 4.0" in info


def test_the_recipe_of_the_hint_can_be_read() -> None:
    sets = ["model=meerkat", "data.sample_rate=8000", "pretrain=null", "backbone=x"]
    recipe = load_recipe("few_calls", sets)
    assert recipe.backbone == "x" and recipe.model.encoder.dim == 1024


def test_a_second_call_needs_no_network(fetch: Any, repository: Any, tmp_path: Path) -> None:
    fetch()
    del repository.asked[:]
    said = fetch()
    assert said.code == 0 and "meerkat-pretrained: is there already" in said.out and "what it can do now" in said.out
    assert repository.asked == []
    said = fetch("meerkat-pretrained", "--file", BIG)
    assert said.code == 2 and "exists already and this call did not make it" in said.only_line()


def test_a_deleted_model_is_imported_again_without_a_download(fetch: Any, repository: Any, tmp_path: Path) -> None:
    fetch()
    shutil.rmtree(tmp_path / "work" / "models")
    del repository.asked[:]
    assert fetch().code == 0 and repository.asked == [LIST]


def test_an_interrupted_transfer_goes_on_where_it_was(transfer: Any, repository: Any) -> None:
    repository.cuts = [100_000, 50_000]
    assert transfer().code == 0
    ranges = ["bytes=100000-", "bytes=150000-"]
    expected = [FILE, STORE, *(f"{path} {wanted}" for wanted in ranges for path in (FILE, STORE))]
    assert repository.asked == [LIST, *expected]  # the repository is asked each time: signed addresses expire


def test_a_store_without_ranges_starts_again(transfer: Any, repository: Any) -> None:
    repository.cuts, repository.ranges = [100_000], False
    assert transfer().code == 0
    assert repository.asked[-2:] == [f"{FILE} bytes=100000-", f"{STORE} bytes=100000-"]


def test_an_earlier_call_that_was_killed_is_gone_on_with(transfer: Any, repository: Any, downloads: Path) -> None:
    (downloads / f"{SMALL}.part").write_bytes(PRETRAINED[:70_001])
    assert transfer().code == 0 and repository.asked[-1] == f"{STORE} bytes=70001-"


def test_a_store_that_always_breaks_off_ends_with_a_line(transfer: Any, repository: Any, downloads: Path) -> None:
    repository.cuts = [90_000] + [0] * 9
    said = transfer()
    assert said.code == 1 and len(repository.asked) == 1 + 2 * 5
    line = said.only_line()
    assert (
        "the connection ended too early; 0.1 of 0.2 MB are here, the same command goes on" in line and BY_HAND in line
    )
    assert (downloads / f"{SMALL}.part").read_bytes() == PRETRAINED[:90_000]
    repository.cuts = []
    assert transfer().code == 0 and repository.asked[-1] == f"{STORE} bytes=90000-"


def test_one_that_starts_again_and_breaks_off_ends_too(transfer: Any, repository: Any) -> None:
    repository.cuts, repository.ranges = [90_000] * 99, False
    said = transfer()
    assert said.code == 1 and "the connection ended too early" in said.only_line()
    assert len(repository.cuts) == 99 - 5


def test_a_busy_repository_is_asked_again_and_a_refusal_is_not(transfer: Any, repository: Any) -> None:
    repository.refusals = [429, 503]
    assert transfer().code == 0
    repository.refusals = [403]
    said = transfer("meerkat-finetuned")
    assert said.code == 1 and "datafile/253219: HTTP 403: over the limit; by hand:" in said.only_line()


def test_a_slow_store_is_given_up(transfer: Any, repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataverse, "TIMEOUT_S", 0.1)
    repository.cuts, repository.stalls_s = [0] * 9, 0.2
    said = transfer()
    assert said.code == 1 and "no answer for 0.1 s" in said.only_line()


def test_a_full_disk_is_not_taken_for_the_network(transfer: Any, repository: Any, monkeypatch: Any) -> None:
    def full(file: Any, block: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_write", full)
    said = transfer()
    assert said.code == 1 and f"{SMALL}.part: no space left on the disk; free some" in said.only_line()
    assert repository.asked == [LIST, FILE, STORE]


def test_a_connection_that_is_reset_is_tried_again(transfer: Any, repository: Any, monkeypatch: Any) -> None:
    read, times = HTTPResponse.read, []

    def reset(answer: HTTPResponse, amount: int | None = None) -> bytes:
        if amount == 1 << 14:
            times.append(amount)
        if amount is not None and len(times) == 3:
            raise OSError(113, "No route to host")
        return read(answer, amount)

    monkeypatch.setattr(HTTPResponse, "read", reset)
    assert transfer().code == 0 and repository.asked[-1] == f"{STORE} bytes={2 << 14}-"


def test_ctrl_c_says_what_is_there(transfer: Any, monkeypatch: pytest.MonkeyPatch, downloads: Path) -> None:
    write, written = download._write, []

    def stopped(file: Any, block: bytes) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(write(file, block))

    monkeypatch.setattr(download, "_write", stopped)
    said = transfer()
    part = downloads / f"{SMALL}.part"
    assert said.code == 130 and said.only_line() == f"stopped: 0.0 of 0.2 MB are in {part}; the same command goes on"
    assert part.read_bytes() == PRETRAINED[: 1 << 14]


@pytest.mark.parametrize("kind", ["MD5", "SHA-1", "SHA-256", "SHA-512"])
def test_a_wrong_checksum_is_refused_whatever_its_type(
    transfer: Any, repository: Any, downloads: Path, kind: str
) -> None:
    repository.of_file = {"checksum": {"type": kind, "value": "0123"}}
    said = transfer()
    assert said.code == 1 and f"its {kind} is " in said.only_line() and "the repository says 0123; removed" in said.err
    assert os.listdir(downloads) == [] and os.listdir(downloads.parent) == ["downloads"]


def test_without_a_checksum_the_size_still_counts(transfer: Any, repository: Any) -> None:
    repository.of_file = {"checksum": None, "filesize": len(PRETRAINED) - 1}
    said = transfer()
    assert said.code == 1 and f"sends more than the {len(PRETRAINED) - 1:,} bytes" in said.only_line()
    repository.of_file = {"checksum": None}
    assert transfer().code == 0


def test_another_file_under_the_same_name_is_refused(transfer: Any, repository: Any, downloads: Path) -> None:
    assert transfer().code == 0
    (downloads / SMALL).unlink()
    repository.files[SMALL] = FINETUNED
    said = transfer()
    digests = [hashlib.sha256(content).hexdigest() for content in (FINETUNED, PRETRAINED)]
    assert said.code == 1 and f"sha256 {digests[0]}, at first use {digests[1]}" in said.only_line()
    assert not (downloads / SMALL).exists()
    (downloads / "sha256.json").unlink()  # as the line says
    del repository.asked[:]
    assert transfer().code == 0 and repository.asked == [LIST]  # it is not downloaded once more


def test_a_file_of_the_users_is_left_alone(transfer: Any, downloads: Path) -> None:
    for content in (b"mine", bytes(len(PRETRAINED))):
        (downloads / SMALL).write_bytes(content)
        said = transfer()
        assert said.code == 2 and "exists already and is " in said.only_line() and "move it away first" in said.err
        assert (downloads / SMALL).read_bytes() == content
    mine = downloads.parent / "models" / "meerkat-pretrained"
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    said = transfer()
    assert said.code == 2 and "exists already; name a new folder" in said.only_line()


def test_the_disk_is_looked_at_before(transfer: Any, repository: Any, monkeypatch: Any, downloads: Path) -> None:
    usage = shutil.disk_usage(downloads)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    said = transfer()
    assert said.code == 1 and ": 0.2 MB are needed, 0.1 MB are free" in said.only_line()
    assert repository.asked == [LIST]


def test_two_calls_at_once_do_not_mix(transfer: Any, downloads: Path) -> None:
    with (downloads / f"{SMALL}.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        said = transfer()
    assert said.code == 1 and "another process is downloading it; wait for it" in said.only_line()


def test_files_are_chosen_by_name_where_it_is_not_told(transfer: Any, repository: Any) -> None:
    repository.files = {}
    said = transfer()
    assert said.code == 1 and f"lists no files{BY_HAND}" in said.only_line()
    repository.files = {"one.pt": FINETUNED, "two.pt": PRETRAINED}
    said = transfer()
    assert said.code == 1 and said.only_line().endswith(
        "no file with a name like meerkat-pretrained; choose with --file NAME from: one.pt (0.4 MB), two.pt (0.2 MB)"
    )
    repository.files = {"v1_Pre-Trained.PT": PRETRAINED, "pretrained_v2.pt": FINETUNED, "pretrained.txt": b"x"}
    said = transfer()
    assert said.code == 1 and "2 files with a name like meerkat-pretrained; choose" in said.only_line()
    assert said.only_line().endswith("--file NAME from: v1_Pre-Trained.PT (0.2 MB), pretrained_v2.pt (0.4 MB)")
    said = transfer("meerkat-pretrained", "--file", "v3.pt")
    assert said.code == 1 and "no file called v3.pt; choose with --file NAME from: v1_Pre-" in said.only_line()
    assert transfer("meerkat-pretrained", "--file", "v1_Pre-Trained.PT").code == 0


def test_a_repository_cannot_write_elsewhere_or_into_the_terminal(
    transfer: Any, repository: Any, tmp_path: Path
) -> None:
    repository.files = {"../../pretrained.pt": PRETRAINED}
    repository.listing = {"license": None, "termsOfUse": "<p>Ask\x1b[2J us</p>\n" + "x" * 999}
    said = transfer("meerkat-pretrained", "--file", "file-253219")
    assert said.code == 0 and "\x1b" not in said.out and "  licence   Ask [2J us xxx" not in said.out
    assert "  licence   Ask[2J us xxx" in said.out and max(map(len, said.out.splitlines())) < 400
    assert sorted(os.listdir(tmp_path)) == ["work"] and (tmp_path / "work" / "downloads" / "file-253219").exists()


def test_licences_of_older_repositories_and_restricted_files(transfer: Any, repository: Any) -> None:
    repository.listing = {"license": "CC0", "termsOfUse": "CC0 Waiver"}
    assert "  licence   CC0, CC0 Waiver\n" in transfer().out
    repository.listing = {"license": "NONE", "metadataBlocks": {}}
    said = transfer("meerkat-finetuned")
    assert said.code == 0 and "  licence   none named: ask the authors\n" in said.out
    files = [{**entry, "restricted": True} for entry in repository.version()["files"]]
    repository.listing = {"files": files}
    said = transfer()
    assert said.code == 1 and "the authors give it on request only" in said.only_line()


def test_what_is_no_repository_is_a_line(a2v: Any, repository: Any, tmp_path: Path) -> None:
    def told(source: str) -> str:
        said = a2v("model", "fetch", "meerkat-pretrained", "--from", source, "--work", tmp_path)
        assert said.code == 1 and BY_HAND in said.only_line() and said.out == ""
        return said.only_line().partition(BY_HAND)[0]

    assert told("http://nowhere.invalid") == (
        "http://nowhere.invalid: its host is not found: no network here, or the host is gone"
    )
    assert told("http://127.0.0.1:9").endswith("Connection refused")
    assert told("file:///etc").endswith("should begin with https:// or http:// and name a host")
    assert told("https://").endswith("should begin with https:// or http:// and name a host")
    for answer in (
        b"<html>Making sure you're not a bot!</html>",
        b"[]",
        b'{"data": {"latestVersion": {"files": [1]}}}',
    ):
        repository.answer = answer
        assert told(repository.uri) == f"{repository.uri}: does not answer as a Dataverse repository does"
    assert told(f"{repository.uri}/elsewhere") == f"{repository.uri}/elsewhere: HTTP 404: no such page"
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_imported_stays_and_says_how(fetch: Any, repository: Any, downloads: Path) -> None:
    repository.files = {"pretrained.pt": b"PK no archive"}
    said = fetch()
    assert said.code == 2 and "damaged, not a complete torch checkpoint" in said.err
    told = said.err.splitlines()[-1]
    assert told.startswith("a2v: the download is whole and stays") and "pretrained.pt --out" in told
    assert (downloads / "pretrained.pt").exists()
