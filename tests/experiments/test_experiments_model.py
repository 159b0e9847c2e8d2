"""`a2v model`: import, info and export as a user calls them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from a2v_model import load_model
from safetensors.torch import load_file

GOLDENS = Path(__file__).parent.parent / "model" / "goldens"
FINETUNED = GOLDENS / "tiny_fairseq_ckpt_finetuned_dictconfig_fp16.pt"
PRETRAINED = GOLDENS / "tiny_fairseq_ckpt_pretrain.pt"


def test_import_shows_what_it_found_and_info_shows_it_again(a2v: Any, tmp_path: Path) -> None:
    said = a2v("model", "import", FINETUNED, "--out", tmp_path / "model")
    assert said.code == 0
    digest = hashlib.sha256(FINETUNED.read_bytes()).hexdigest()
    for fact in (
        f"{tmp_path / 'model'}: detector model", "28,322", "8000 Hz", "200 Hz, 40 samples per frame",
        "302 samples, 37.8 ms per frame", "4: aa, bb, cc, focal", "start probability 0.20625, 4 frames",
        "50 %, 4 channels", FINETUNED.name, digest, "82 tensors of float16", "optimizer_history, extra_state",
    ):  # fmt: skip
        assert fact in said.out, fact
    info = a2v("model", "info", tmp_path / "model")
    assert info.code == 0 and info.out == said.out and info.err == ""
    assert load_model(tmp_path / "model").classes == ["aa", "bb", "cc", "focal"]


def test_info_as_json(a2v: Any, tmp_path: Path) -> None:
    a2v("model", "import", PRETRAINED, "--out", tmp_path / "model")
    said = a2v("model", "info", tmp_path / "model", "--json")
    known = json.loads(said.out)
    assert said.code == 0 and known["kind"] == "pretrained" and known["classes"] == []
    assert known["parameters"]["model"] == 29602 and known["parameters"]["parts"]["teacher"] == 16036
    assert known["provenance"]["imported"]["updates"] == 4
    assert known["masks"] == {"mask_probability": 0.75, "mask_length": 2, "mask_noise": 0.01}


@pytest.mark.parametrize("source", [FINETUNED, PRETRAINED])
def test_export_reads_back(a2v: Any, source: Path, tmp_path: Path) -> None:
    a2v("model", "import", source, "--out", tmp_path / "one")
    said = a2v("model", "export", tmp_path / "one", tmp_path / "out.pt")
    assert said.code == 0 and said.out.startswith(f"{tmp_path / 'out.pt'}: 0.") and said.err == ""
    card = (tmp_path / "out.md").read_text(encoding="utf-8")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert f"`{source.name}` of the original animal2vec, sha256 {digest}" in card
    assert "license: unknown" in card and "What it was trained on: not recorded." in card
    assert a2v("model", "import", tmp_path / "out.pt", "--out", tmp_path / "two").code == 0
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    one, two = (json.loads((tmp_path / name / "model.json").read_text()) for name in ("one", "two"))
    provenance = two.pop("extra")
    assert provenance["before_export"] == one.pop("extra") and provenance["imported"]["updates"] == 4
    assert one == two


def _papers_kind() -> Any:
    """The preset tiny, but with the paper's front end: what can be exported."""
    from a2v_model import PRESETS, FrontEndConfig

    tiny = PRESETS["tiny"]
    front_end = FrontEndConfig(sinc_filters=8, layers=((8, 10, 5), (16, 8, 8)))
    encoder = tiny.model.encoder.model_copy(update={"downsampling": 1})
    return tiny._replace(model=tiny.model.model_copy(update={"front_end": front_end, "encoder": encoder}))


def test_a_model_of_a_run_here_exports_with_its_updates(a2v: Any, tmp_path: Path) -> None:
    from a2v_model import PRESETS, Pretrainer, save_model

    save_model(Pretrainer(*PRESETS["tiny"][:2]), tmp_path / "ear", {})
    info = a2v("model", "info", tmp_path / "ear")
    assert info.code == 0 and "8000 Hz" in info.out and "100 Hz, 80 samples per frame" in info.out
    said = a2v("model", "export", tmp_path / "ear", tmp_path / "out.pt")
    assert said.code == 2 and said.only_line().startswith("front_end.kind = ear: the original has no such front end")
    save_model(Pretrainer(*_papers_kind()[:2]), tmp_path / "model", {"run_id": "abc", "updates": 120})
    info = a2v("model", "info", tmp_path / "model")
    assert info.code == 0 and "run_id" in info.out and "abc" in info.out
    said = a2v("model", "export", tmp_path / "model", tmp_path / "out.pt")
    assert said.code == 0 and "only a2v reads back  model.encoder.init_std = 0.1" in said.out
    contents = torch.load(tmp_path / "out.pt", weights_only=True)
    assert contents["optimizer_history"] == [{"num_updates": 120}]


def test_info_and_export_of_a_run_and_its_thresholds(a2v: Any, new_work: Any, tmp_path: Path) -> None:
    from a2v_experiments.store.tracking import open_store
    from a2v_model import Detector, save_model, write_thresholds

    tiny = _papers_kind()
    place = tmp_path / "saved" / "model"
    save_model(Detector(tiny.model, tiny.finetune, ["cc", "sn"]), place, {"run": "x", "updates": 7})
    said = a2v("model", "info", place)
    assert said.code == 0 and "thresholds" in said.out and "none chosen" in said.out
    write_thresholds(place, {"cc": 0.35}, {"iou_threshold": 0.5, "F1": {"cc": 0.8123}})
    store = open_store(new_work("work"), None, "birds")
    run_id = store.begin("finetune", "f", "fold 0", {}, {}, None)
    store.log_folder(run_id, place, "model")
    store.finish(run_id)
    said = a2v("model", "info", f"runs:/{run_id}", "--tracking-uri", store.uri)
    assert said.code == 0 and said.out.startswith(f"runs:/{run_id}: detector model\n")
    for fact in ("cc 0.35; none for sn", "iou threshold"):
        assert fact in said.out, fact
    rows = {line.split()[0]: line.split()[1:] for line in said.out.splitlines() if line}
    assert rows["cc"] == ["0.35", "0.812", "–", "–", "–", "yes"]  # of an a2v that told F1 only
    assert rows["sn"][:6] == ["–", "–", "–", "–", "–", "no:"]
    known = json.loads(a2v("model", "info", f"runs:/{run_id}", "--json", "--tracking-uri", store.uri).out)
    assert known["thresholds"] == {"cc": 0.35} and known["thresholds_from"]["F1"] == {"cc": 0.8123}
    said = a2v("model", "export", f"runs:/{run_id}/model", tmp_path / "out.pt", "--tracking-uri", store.uri)
    assert said.code == 0 and "only a2v reads back  threshold of cc = 0.35" in said.out
    said = a2v("model", "import", tmp_path / "out.pt", "--out", tmp_path / "again")
    assert said.code == 0 and "cc 0.35; none for sn" in said.out
    one, two = load_file(place / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    said = a2v("model", "info", "runs:/0123456789abcdef0123456789abcdef", "--tracking-uri", store.uri)
    assert said.code == 1 and said.out == "" and "cannot be fetched from" in said.only_line()


def test_info_has_a_row_for_each_class_and_says_what_is_not_learned(a2v: Any, tmp_path: Path) -> None:
    from a2v_model import PRESETS, Detector, save_model, write_thresholds

    tiny, place = PRESETS["tiny"], tmp_path / "model"
    save_model(Detector(tiny.model, tiny.finetune, ["cc", "sn", "bl", "ld"]), place, {})
    scores = {"F1": {"cc": 0.3, "sn": 0.05}, "precision": {"cc": 0.25, "sn": 0.026}, "recall": {"cc": 0.375, "sn": 0.9}}
    labels = {"cc": 40, "sn": 12, "bl": 0, "ld": 7}
    write_thresholds(place, {"cc": 0.35, "sn": 0.01}, {"method": "avg", **scores, "labels": labels})
    said = a2v("model", "info", place)
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in said.out.splitlines() if line}
    assert rows["class"] == "threshold F1 precision recall labels learned"
    assert rows["cc"] == "0.35 0.300 0.250 0.375 40 yes" and rows["sn"] == "0.01 0.050 0.026 0.900 12 no"
    assert rows["bl"] == "– – – – 0 no: no label to choose a threshold on"
    assert rows["ld"] == "– – – – 7 no: nothing found at any threshold on 7 labels"
    known = json.loads(a2v("model", "info", place, "--json").out)
    assert known["learned"] == {"cc": True, "sn": False, "bl": False, "ld": False}


def test_nothing_of_the_users_is_overwritten(a2v: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    said = a2v("model", "import", PRETRAINED, "--out", tmp_path / "mine")
    assert said.code == 2 and "exists already; name a new folder" in said.only_line()
    a2v("model", "import", PRETRAINED, "--out", tmp_path / "model")
    (tmp_path / "mine.pt").write_text("mine")
    said = a2v("model", "export", tmp_path / "model", tmp_path / "mine.pt")
    assert said.code == 2 and "exists already; name a new file" in said.only_line()
    assert (tmp_path / "mine.pt").read_text() == (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    (tmp_path / "out.md").write_text("mine")
    said = a2v("model", "export", tmp_path / "model", tmp_path / "out.pt")
    assert said.code == 2 and "out.md: exists already" in said.only_line() and not (tmp_path / "out.pt").exists()


def test_mistakes_are_lines_and_leave_nothing_behind(a2v: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    for file, told in (("nowhere.pt", "no such file"), ("empty.pt", "empty; expected a checkpoint")):
        said = a2v("model", "import", tmp_path / file, "--out", tmp_path / "out")
        assert said.code == 2 and told in said.only_line() and said.out == ""
    said = a2v("model", "info", FINETUNED)
    assert said.code == 2 and "is a file, not a model's folder" in said.only_line() and "a2v model import" in said.err
    said = a2v("model", "info", tmp_path)
    assert said.code == 2 and "no model.json there" in said.only_line()
    said = a2v("model", "export", tmp_path / "nowhere", tmp_path / "out.pt")
    assert said.code == 2 and "no model.json there" in said.only_line()
    assert os.listdir(tmp_path) == ["empty.pt"]


def test_an_unknown_key_can_be_vouched_for(a2v: Any, tmp_path: Path) -> None:
    contents = torch.load(PRETRAINED, weights_only=True)
    contents["cfg"]["model"] |= {"shiny": 3, "layer_norm_first": True}
    torch.save(contents, tmp_path / "shiny.pt")
    said = a2v("model", "import", tmp_path / "shiny.pt", "--out", tmp_path / "out")
    assert said.code == 2 and "--ignore cfg.model.shiny" in said.err
    assert len([line for line in said.err.splitlines() if line.startswith("a2v: ")]) == 2  # one for each problem
    contents["cfg"]["model"]["layer_norm_first"] = False
    torch.save(contents, tmp_path / "shiny.pt")
    said = a2v("model", "import", tmp_path / "shiny.pt", "--out", tmp_path / "out", "--ignore", "cfg.model.shiny")
    assert said.code == 0 and "cfg.model.shiny = 3 (unknown, ignored as asked)" in said.out
