"""Plugins: what they register, where their mistakes are told, and models that bring them."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from a2v_model import Detector, FinetuneConfig, ModelConfig, load_model, plugins, save_model
from a2v_model.plugins import Plugin, agreeing, load, use
from a2v_model.summary import summarise

LOSS = """
from a2v_model.registry import register_loss
from pydantic import BaseModel

class Section(BaseModel):
    weight: float = 3.0

@register_loss("squares", config=Section)
def squares(logits, targets, config):
    return config.weight * (logits.sigmoid() - targets) ** 2
"""
PARTS = """
from a2v_model.registry import FrontEndOptions, register_front_end, register_head
from torch import nn

print("this code ran")

class Blocks(FrontEndOptions):
    stride: int = 40
    width: int = 5

@register_front_end("blocks", config=Blocks)
class Front(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.stride, self.layer = config.stride, nn.Linear(config.stride, config.width)

    def forward(self, waveform_BN):
        frames = waveform_BN.shape[1] // self.stride
        return self.layer(waveform_BN[:, : frames * self.stride].unflatten(1, (frames, self.stride)))

@register_head("two_layers")
class Head(nn.Module):
    def __init__(self, dim, classes, config):
        super().__init__()
        self.first, self.classify = nn.Linear(dim, 3), nn.Linear(3, classes)

    def forward(self, x_BTD, valid_BT):
        return self.classify(self.first(x_BTD).relu())
"""


def plugin(text: str, name: str = "mine") -> Plugin:
    return Plugin(name=name, files={"__init__.py": text})


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch):
    monkeypatch.delenv("A2V_ALLOW_PLUGINS", raising=False)
    yield
    for one in list(plugins._active.values()):
        plugins._put_out(one)


def detector(**finetune) -> Detector:
    encoder = {"dim": 8, "heads": 2, "depth": 1, "prenet_depth": 1, "positional_depth": 1, "positional_groups": 2}
    front_end = {"sample_rate": 8000, "layers": [(4, 10, 40)], "sinc_filters": 4}
    if "head" in finetune:
        front_end = {"kind": "blocks", "sample_rate": 8000}
    else:
        front_end["layers"] = [(4, 80, 40)]
    model = ModelConfig.model_validate({"front_end": front_end, "encoder": encoder})
    config = FinetuneConfig.model_validate({"average_layers": 1, "channel_mask_length": 0, **finetune})
    torch.manual_seed(0)
    return Detector(model, config, ["a", "b"]).eval()


def test_the_registries_parts_are_one_text():
    places = [f"packages/a2v-{name}/src/a2v_{name}/parts.py" for name in ("model", "data", "eval")]
    assert len({(Path(__file__).parents[2] / place).read_text() for place in places}) == 1


def test_a_loss_of_a_plugin_is_summed_over_the_known_targets_as_the_built_in_ones_are():
    use([plugin(LOSS)])
    model = detector(loss={"kind": "squares", "weight": 2})
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]])  # likelihoods 1/2, 3/4; 1/2, 1/2
    targets = torch.tensor([[[1.0, 0.0], [math.nan, math.nan]]])
    total, frames = model.loss(logits, targets)
    assert frames == 1 and float(total) == pytest.approx(2 * (1 / 4 + 9 / 16))
    recordings = model.presence_loss(
        logits, torch.tensor([[True, False]]), torch.tensor([0]), torch.tensor([[1.0, math.nan]])
    )
    assert recordings.tolist() == pytest.approx([2 * 1 / 4], rel=1e-4)


def test_sections_are_complete_strict_and_travel_as_plain_data():
    use([plugin(LOSS)])
    config = FinetuneConfig.model_validate({"loss": {"kind": "squares"}})
    assert config.model_dump(mode="json")["loss"] == {"kind": "squares", "weight": 3.0}
    assert FinetuneConfig.model_validate(config.model_dump()) == config
    assert config.loss.config.weight == 3 and "loss" not in FinetuneConfig().model_dump()
    again = pickle.loads(pickle.dumps(config))
    assert again == config and "config" not in again.loss.__dict__
    with pytest.raises(ValueError, match="loss squares of plugin mine: wieght: unknown key; did you mean 'weight'"):
        FinetuneConfig.model_validate({"loss": {"kind": "squares", "wieght": 1}})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = (", "plugin mine: mine.py, line 1: '(' was never closed"),
        ("\nimport nowhere_to_be_found", "mine.py, line 2: No module named 'nowhere_to_be_found'"),
        ("\n\n1 / 0", "mine.py, line 3: ZeroDivisionError: division by zero"),
        ("raise SystemExit(1)", "SystemExit: 1"),
        ("x = 1", "registers nothing"),
        (LOSS.replace('"squares"', '"focal"'), "loss 'focal': is the name of a built-in one"),
        (LOSS.replace('"squares"', '"a b"'), "loss 'a b': a name has letters"),
        (LOSS + LOSS, "loss 'squares': is registered already, by mine"),
        (LOSS.replace("weight: float", "kind: str = ''\n    weight: float"), "its config must not have it"),
        (PARTS.replace("config=Blocks", "config=None"), "config must be a class derived from FrontEndOptions"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(text, told):
    with pytest.raises(ValueError) as error:
        load(plugin(text))
    assert told in str(error.value) and "\n" not in str(error.value)
    assert load(plugin(LOSS)).registers == {"loss": ["squares"]}


def test_names_are_taken_by_one_plugin_and_an_edited_one_takes_its_own_place():
    use([plugin(LOSS)])
    with pytest.raises(ValueError, match=r"plugin other: .*loss 'squares': is registered already, by mine"):
        load(plugin(LOSS, "other"))
    edited = plugin(LOSS.replace("3.0", "5.0"))
    with pytest.raises(ValueError, match="another source of it is loaded"):
        load(edited)
    use([edited])
    assert FinetuneConfig.model_validate({"loss": {"kind": "squares"}}).loss.config.weight == 5
    use([plugin(LOSS)])  # and back, without running it again
    assert FinetuneConfig.model_validate({"loss": {"kind": "squares"}}).loss.config.weight == 3


def test_a_package_imports_its_own_modules_and_each_once(capsys):
    files = {
        "__init__.py": "",
        "parts/__init__.py": "print('once')",
        "parts/mine.py": LOSS + "\nfrom . import __name__",
    }
    one = Plugin(name="birds", files=files, entry="parts.mine")
    assert use([one, one])[0].registers == {"loss": ["squares"]}
    assert capsys.readouterr().out == "once\n"


def test_a_model_with_a_head_and_a_front_end_of_a_plugin_runs_no_code_until_it_may(tmp_path, capsys):
    use([plugin(PARTS)])
    model = detector(head={"kind": "two_layers"}, head_prior=0.01)
    waveform = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    said = model.likelihoods(waveform)
    assert said.shape == (100, 2)
    assert model.head.classify.bias.tolist() == pytest.approx([math.log(0.01 / 0.99)] * 2)
    save_model(model, tmp_path / "model", {})
    for one in list(plugins._active.values()):
        plugins._put_out(one)
    capsys.readouterr()
    source = tmp_path / "model/plugins/mine/__init__.py"
    assert source.read_text() == PARTS
    with pytest.raises(ValueError) as error:
        load_model(tmp_path / "model")
    assert str(source) in str(error.value) and "--allow-plugins" in str(error.value) and "\n" not in str(error.value)
    assert summarise(tmp_path / "model")["frame_rate_hz"] == 200  # which needs no code
    with pytest.raises(ValueError, match="look at"):
        load_model(tmp_path / "model", ["0" * 64])
    assert "this code ran" not in capsys.readouterr().out
    with agreeing():
        again = load_model(tmp_path / "model")
    assert torch.equal(again.likelihoods(waveform), said)
    assert load_model(tmp_path / "model").plugins == again.plugins  # it is loaded now
    save_model(again, tmp_path / "copy", {})
    assert (tmp_path / "copy/plugins/mine/__init__.py").read_text() == PARTS
    source.write_text(PARTS + "\n# changed")
    with pytest.raises(ValueError, match="is not the source that the model was saved with"):
        load_model(tmp_path / "model", allow_plugins=True)


@pytest.mark.slow
def test_another_process_needs_the_agreement_or_the_digest(tmp_path):
    use([plugin(PARTS)])
    save_model(detector(head={"kind": "two_layers"}), tmp_path / "model", {})

    def load_there(allow: str, **environment: str) -> subprocess.CompletedProcess[str]:
        code = f"from a2v_model import load_model; load_model({str(tmp_path / 'model')!r}, {allow}); print('loaded')"
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
        )

    assert "this code ran" not in load_there("False").stdout
    assert "loaded" in load_there(repr((plugin(PARTS).digest,))).stdout
    assert "loaded" in load_there("False", A2V_ALLOW_PLUGINS="1").stdout


def test_a_loss_is_needed_for_training_only(tmp_path):
    use([plugin(LOSS)])
    model = detector(loss={"kind": "squares", "weight": 2})
    save_model(model, tmp_path / "model", {})
    for one in list(plugins._active.values()):
        plugins._put_out(one)
    again = load_model(tmp_path / "model")
    assert torch.equal(again.likelihoods(torch.ones(400)), model.likelihoods(torch.ones(400)))
    with pytest.raises(ValueError, match="kind = 'squares'"):
        again.loss(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))
    save_model(again, tmp_path / "copy", {})  # which keeps what it did not run
    assert (tmp_path / "copy/plugins/mine/__init__.py").read_text() == LOSS


@pytest.mark.parametrize("name", ["../mine", "/etc/mine"])
def test_no_name_leads_out_of_a_models_folder(tmp_path, name):
    use([plugin(LOSS)])
    save_model(detector(loss={"kind": "squares"}), tmp_path / "model", {})
    path = tmp_path / "model/model.json"
    description = json.loads(path.read_text())
    description["plugins"]["mine"]["files"] = ["__init__.py", f"{name}.py"]
    path.write_text(json.dumps(description))
    with pytest.raises(ValueError, match="is no relative path of a Python file"):
        load_model(tmp_path / "model", allow_plugins=True)


@pytest.mark.parametrize("read", [load_model, summarise])
@pytest.mark.parametrize(
    "said", [["mine"], {"mine": None}, {"mine": {"digest": 5, "files": ["__init__.py"]}}, {"mine": {"files": [[1]]}}]
)
def test_a_description_that_says_odd_things_of_plugins_is_refused_in_one_line(tmp_path, said, read):
    use([plugin(LOSS)])
    save_model(detector(loss={"kind": "squares"}), tmp_path / "model", {})
    path = tmp_path / "model/model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"plugins": said}))
    with pytest.raises(ValueError, match="plugin") as raised:
        read(tmp_path / "model")
    assert "\n" not in str(raised.value)


def test_losses_and_heads_that_give_something_else_are_told():
    mean = LOSS.replace("config.weight * (logits.sigmoid() - targets) ** 2", "(logits - targets).mean()")
    use([plugin(mean), plugin(PARTS, "parts")])
    with pytest.raises(ValueError, match=r"gives a tensor \(\); must be the loss of each element, a tensor \(1, 1,"):
        detector(loss={"kind": "squares"}).loss(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))
    use([plugin(PARTS.replace("self.classify", "self.last"), "parts")])
    with pytest.raises(ValueError, match=r"head two_layers of plugin parts: must be an nn.Module whose last layer"):
        detector(head={"kind": "two_layers"})
