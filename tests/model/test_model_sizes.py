"""The sizes of a model are known without building it, and without torch's compiler, which takes seconds to load."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from a2v_model import PRESETS, Detector, Pretrainer
from a2v_model.config import FinetuneConfig, PretrainConfig, StreamConfig
from a2v_model.downsampling import Downsampling, Upsampling
from a2v_model.sizes import sizes_only


def models(name):
    """What a preset makes, each by a call."""
    preset = PRESETS[name]
    streams = {"depth": StreamConfig(columns=["depth_m"], rate=1)} if name == "tiny" else {}
    model = preset.model.model_copy(update={"streams": streams})
    finetune = FinetuneConfig.model_validate(preset.finetune.model_dump(include=set(FinetuneConfig.model_fields)))
    pretrain = PretrainConfig.model_validate(preset.pretrain.model_dump(include=set(PretrainConfig.model_fields)))
    made = [lambda: Detector(model, finetune, ["a", "b"])]
    return made if name == "crnn" else [*made, lambda: Pretrainer(model, pretrain)]


@pytest.mark.parametrize("name", ["base", "small", "tiny", "crnn"])
def test_sizes_are_those_of_the_model(name):
    for made in models(name):
        torch.manual_seed(0)
        whole, before = made(), torch.get_rng_state()
        with sizes_only():
            sizes = made()
        assert all(value.is_meta for value in (*sizes.parameters(), *sizes.buffers()))
        for of in ("named_parameters", "named_buffers", "state_dict"):
            shapes, real = (
                {key: (value.shape, value.dtype) for key, value in dict(getattr(one, of)()).items()}
                for one in (sizes, whole)
            )
            assert shapes == real
        assert torch.equal(torch.get_rng_state(), before)
        assert not any(value.is_meta for value in (*made().parameters(), *made().buffers()))


def test_to_know_them_loads_no_compiler():
    code = f"""
import sys
import test_model_sizes
from a2v_model.sizes import sizes_only
for name in {list(PRESETS)}:
    with sizes_only():
        assert all(sum(one.numel() for one in made().parameters()) > 1e5 for made in test_model_sizes.models(name))
    print(name, sorted(sys.modules.keys() & {{"torch._dynamo", "sympy", "torch._inductor"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"{name} []" for name in PRESETS], done.stderr


@pytest.mark.parametrize("dim, factor", [(6, 2), (6, 3), (1, 2), (5, 1), (7, 7)])
def test_blocks_of_frames_start_as_their_mean_and_as_copies(dim, factor):
    assert torch.equal(Downsampling(dim, factor).project.weight, torch.eye(dim).repeat(1, factor) / factor)
    assert torch.equal(Upsampling(dim, factor).expand.weight, torch.eye(dim).repeat(factor, 1))
