"""Edited checkpoints of the original: settings that are taken over, noted or refused by name, and what does not fit."""

import argparse
import copy
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from a2v_model import Detector, Pretrainer
from a2v_model.original_checkpoint import import_checkpoint
from a2v_model.original_config import read_config
from a2v_model.original_layers import parse_labels, parse_layers, write_layers
from model_archives import FINETUNED, PRETRAINED, edited

pytestmark = pytest.mark.slow

Edit = dict[str, Any]  # dotted path in the checkpoint -> value; `...` deletes


def _set(contents: Any, edit: Edit) -> None:
    for path, value in edit.items():
        *parents, last = path.split("/")
        node = contents
        for key in parents:
            node = node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value


def _problems(source: Path, tmp_path: Path, edit: Edit, **options: Any) -> list[str]:
    path = edited(source, tmp_path / "edited.pt", lambda contents: _set(contents, edit))
    with pytest.raises(ValueError) as error:
        import_checkpoint(path, **options)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


MODEL, AUDIO = "cfg/model", "cfg/model/modalities/audio"
NESTED = "cfg/model/w2v_args/model"
FINETUNE = "finetuned cfg/model"  # the section model of a finetuned file


@pytest.mark.parametrize(
    ("section", "key", "value", "known"),
    [
        (MODEL, "layer_norm_first", True, False),
        (MODEL, "norm_eps", 1e-6, 1e-5),
        (MODEL, "norm_affine", False, True),
        (MODEL, "end_of_block_targets", True, False),
        (MODEL, "supported_modality", "IMAGE", "AUDIO"),
        (MODEL, "loss_beta", 0.5, 0.0),
        (MODEL, "loss_scale", 3.0, "1 / sqrt(embed_dim)"),
        (MODEL, "instance_norm_target_layer", False, True),
        (MODEL, "ema_encoder_only", True, False),
        (AUDIO, "extractor_mode", "default", "layer_norm"),
        (AUDIO, "sinc_norm", "batch_norm", "layer_norm"),
        (AUDIO, "apply_window_to_root", True, False),
        (AUDIO, "conv_pos_pre_ln", True, False),
        (AUDIO, "num_extra_tokens", 1, 0),
        (AUDIO, "learned_alibi", True, False),
        (AUDIO, "learned_alibi_scale_per_layer", True, False),
        (AUDIO, "num_alibi_heads", 8, 4),
        (AUDIO, "encoder_zero_mask", False, True),
        (AUDIO, "inverse_mask", True, False),
        (AUDIO, "mask_channel_prob", 0.2, 0.0),
        (AUDIO, "ema_local_encoder", True, False),
        (f"{AUDIO}/decoder", "add_positions_all", True, False),
        (f"{AUDIO}/decoder", "projection_layers", 2, 1),
        (FINETUNE, "layer_type", "adapter", "transformer"),
        (FINETUNE, "blank_weight", 2.0, 0.0),
        (FINETUNE, "normalize", False, True),
        (NESTED, "layer_norm_first", True, False),
        (f"{NESTED}/modalities/audio", "sinc_norm", "instance", "layer_norm"),
    ],
)
def test_what_cannot_be_represented_is_refused_by_name(
    section: str, key: str, value: Any, known: Any, tmp_path: Path
) -> None:
    source = FINETUNED if section in (FINETUNE, NESTED) or section.startswith(f"{NESTED}/") else PRETRAINED
    section = section.removeprefix("finetuned ")
    name = f"{section.replace('/', '.')}.{key}"
    assert _problems(source, tmp_path, {f"{section}/{key}": value}) == [f"{name} = {value}: a2v only knows {known}"]


NO_LAYERS = "only lists of (filters, kernel, stride) with + and * are understood"


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ({f"{AUDIO}/alibi_scale": "x"}, "cfg.model.modalities.audio.alibi_scale = x: should be a number"),
        (
            {f"{AUDIO}/conv_feature_layers": "__import__('os')"},
            f"cfg.model.modalities.audio.conv_feature_layers = __import__('os'): {NO_LAYERS}",
        ),
        (
            {f"{AUDIO}/conv_feature_layers": "[(127, 63, 2), (8, 10, 5)]"},
            "cfg.model.modalities.audio.conv_feature_layers: a Sinc layer of stride 2, should be 1",
        ),
        (
            {f"{AUDIO}/sample_rate": 16000},
            "cfg.model.modalities.audio.sample_rate = 16000, elsewhere 8000: unclear",
        ),
        (
            {"cfg/task/normalize": False},
            "cfg.task.normalize = False: a2v only knows waveforms of zero mean and unit variance",
        ),
        (
            {f"{AUDIO}/conv_feature_layers": "[(127, 64, 1), (8, 10, 5)]"},
            "front_end.sinc_kernel = 64: must be odd, e.g. 65",
        ),
        ({f"{MODEL}/depth": ...}, "cfg.model.depth is missing"),
        ({f"{AUDIO}/mask_length": ...}, "cfg.model.modalities.audio.mask_length is missing"),
        ({f"{AUDIO}/decoder/decoder_dim": ...}, "cfg.model.modalities.audio.decoder.decoder_dim is missing"),
        ({f"{MODEL}/attention_dropout": 1.5}, "encoder.attention_dropout = 1.5: Input should be less than 1"),
        ({f"{AUDIO}/mask_prob": 3.0}, "mask_probability = 1.5: Input should be less than or equal to 1"),
        (
            {f"{MODEL}/num_heads": 3, f"{AUDIO}/num_alibi_heads": 3},
            "encoder.dim = 16 is not divisible by encoder.heads = 3",
        ),
        (
            {f"{MODEL}/average_top_k_layers": 5},
            "pretrain.target_layers = 5: the encoder has only encoder.depth = 2 main blocks",
        ),
        ({f"{MODEL}/depth": 900}, "its configuration has 917 layers but the file has only 139 weights"),
        ({f"{MODEL}/depth": 10**9}, "encoder.depth = 1000000000: Input should be less than or equal to 1000"),
        (
            {f"{MODEL}/embed_dim": 1 << 16},
            "its configuration has layers of 262144 channels but the file has only 45639 numbers",
        ),
        ({f"{MODEL}/embed_dim": 1 << 40}, "encoder.dim = 1099511627776: Input should be less than or equal to 65536"),
    ],
)  # fmt: skip
def test_a_configuration_that_makes_no_model_is_refused(edit: Edit, told: str, tmp_path: Path) -> None:
    assert _problems(PRETRAINED, tmp_path, edit) == [told]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("unique_labels", "open('x')", "cfg.model.unique_labels = open('x'): not a list of labels"),
        ("unique_labels", "['a', 'a']", "classes = ['a', 'a']: at least one is needed and each may occur only once"),
        ("unique_labels", "[]", "classes = []: at least one is needed and each may occur only once"),
        ("unique_labels", "['a']", "weight w2v_encoder.proj.weight is [4, 16], should be [1, 16]"),
        ("w2v_args", None, "cfg.model.w2v_args is empty: the configuration of the pretrained model is missing"),
        ("mask_channel_length", 16, "finetune.channel_mask_length = 16: must be below encoder.dim = 16"),
        ("final_dropout", ..., "cfg.model.final_dropout is missing"),
    ],
)
def test_the_same_for_a_finetuned_file(key: str, value: Any, told: str, tmp_path: Path) -> None:
    assert _problems(FINETUNED, tmp_path, {f"{MODEL}/{key}": value})[0] == told


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    edit = {f"{MODEL}/layer_norm_first": True, f"{MODEL}/num_heads": ..., f"{AUDIO}/extractor_mode": "default"}
    problems = _problems(PRETRAINED, tmp_path, edit)
    assert {line.split(" ")[0].rsplit(".", 1)[-1] for line in problems} >= {
        "layer_norm_first",
        "num_heads",
        "extractor_mode",
    }


def test_an_unknown_key_is_refused_unless_it_is_off_or_the_user_vouches_for_it(tmp_path: Path) -> None:
    told = (
        "cfg.model.shiny_attention = 3: unknown here, and it may change what the network computes "
        "(if you know that it does not: --ignore cfg.model.shiny_attention)"
    )
    edit = {f"{MODEL}/shiny_attention": 3, f"{AUDIO}/off": False, f"{AUDIO}/none": None, f"{MODEL}/zero": 0.0}
    assert _problems(PRETRAINED, tmp_path, edit) == [told]
    known = import_checkpoint(tmp_path / "edited.pt", ["cfg.model.shiny_attention"]).provenance["imported"]
    assert known["not_taken_over"] == ["cfg.model.shiny_attention = 3 (unknown, ignored as asked)"]
    fixed = {f"{MODEL}/layer_norm_first": True}
    assert _problems(PRETRAINED, tmp_path, fixed, ignored=["cfg.model.layer_norm_first"])  # a known one cannot be


def test_what_concerns_training_only_is_noted(tmp_path: Path) -> None:
    edit = {f"{MODEL}/start_drop_path_rate": 0.1, f"{MODEL}/post_mlp_drop": 0.3, f"{AUDIO}/local_grad_mult": 0.5}
    path = edited(PRETRAINED, tmp_path / "edited.pt", lambda contents: _set(contents, edit))
    assert import_checkpoint(path).provenance["imported"]["not_taken_over"] == [
        "cfg.model.post_mlp_drop = 0.3, encoder_dropout taken for both",
        "cfg.model.start_drop_path_rate = 0.1",
        "cfg.model.modalities.audio.local_grad_mult = 0.5",
    ]
    edit = {f"{MODEL}/mask_selection": "uniform", f"{MODEL}/feature_grad_mult": 0.1, f"{MODEL}/layer_decay": 0.9}
    path = edited(FINETUNED, tmp_path / "edited.pt", lambda contents: _set(contents, edit))
    imported = import_checkpoint(path)
    assert isinstance(imported.model, Detector) and not imported.model.config.freeze_front_end
    assert imported.provenance["imported"]["not_taken_over"] == [
        "cfg.model.feature_grad_mult = 0.1", "cfg.model.mask_selection = uniform", "cfg.model.layer_decay = 0.9",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "fields"),
    [
        ({"apply_mask": False}, {"mask_probability": 0.0, "channel_mask_probability": 0.0, "mask_length": 4}),
        ({"zero_mask": True}, {"mask_noise": 0.0}),
        ({"feature_grad_mult": 1.0}, {"freeze_front_end": False}),
        ({"use_focal_loss": False}, {"focal": False}),
        (
            {"layerdrop": 0.1, "final_dropout": 0.2},  # the original drops layers of prenet and main blocks alike
            {"layerdrop": 0.1, "prenet_layerdrop": 0.1, "head_dropout": 0.2},
        ),
        ({"activation_dropout": 0.3}, {"activation_dropout": 0.3, "mlp_output_dropout": 0.3}),  # its MLP drops twice
        ({"mask_prob": 1.1, "mask_length": 2}, {"mask_probability": 0.55, "mask_length": 2}),
        ({"mask_length": 0}, {"mask_length": 0, "mask_probability": 0.0}),
        ({"freeze_finetune_updates": 10_000}, {"head_only_updates": 10_000}),
        ({"average_top_k_layers": 1}, {"average_layers": 1}),
        ({"mask_channel_prob": 0.25}, {"channel_mask_probability": 0.25}),
        ({"mask_channel_length": 8}, {"channel_mask_length": 8}),
    ],
)  # fmt: skip
def test_settings_of_finetuning_are_taken_over(edit: Edit, fields: Edit, tmp_path: Path) -> None:
    changes = {f"{MODEL}/{key}": value for key, value in edit.items()}
    path = edited(FINETUNED, tmp_path / "edited.pt", lambda contents: _set(contents, changes))
    config = import_checkpoint(path).model.config
    assert {name: getattr(config, name) for name in fields} == fields


def test_weights_that_do_not_fit_are_all_listed(tmp_path: Path) -> None:
    block = "model/blocks.1."
    edit = {
        f"{block}norm1.weight": ..., f"{block}mlp.fc1.bias": ..., "model/_ema/blocks.0.norm2.bias": ...,
        "model/mask_emb": torch.zeros(16), "model/_ema/extra": torch.zeros(1),
        "model/modalities.AUDIO.alibi_scale": torch.ones(2),
        f"{block}attn.proj.weight": torch.zeros(16, 15),
        "model/modality_encoders.AUDIO.alibi_scale": torch.ones(1, 1, 3, 1, 1),
    }  # fmt: skip
    assert sorted(_problems(PRETRAINED, tmp_path, edit)) == [
        "missing weight _ema.blocks.0.norm2.bias",
        "missing weight blocks.1.mlp.fc1.bias",
        "missing weight blocks.1.norm1.weight",
        "unexpected weight _ema.extra",
        "unexpected weight mask_emb",
        "unexpected weight modalities.AUDIO.alibi_scale",
        "weight blocks.1.attn.proj.weight is [16, 15], should be [16, 16]",
        "weight modality_encoders.AUDIO.alibi_scale is [1, 1, 3, 1, 1], should be [1, 1, 4, 1, 1]",
    ]


def test_many_misfits_and_odd_names_make_bounded_lines(tmp_path: Path) -> None:
    edit: Edit = {f"model/w{n}": torch.zeros(1) for n in range(1200)} | {"model/" + "x\n\x1b" * 200: torch.zeros(1)}
    path = edited(PRETRAINED, tmp_path / "edited.pt", lambda contents: _set(contents, edit))
    with pytest.raises(ValueError) as error:
        import_checkpoint(path)
    lines = str(error.value).splitlines()
    assert len(lines) == 1001 and lines[-1] == f"{path}: and 201 more"
    assert all(line.isprintable() and len(line) < len(str(path)) + 200 for line in lines)


def test_weights_must_be_floating_point_tensors(tmp_path: Path) -> None:
    edit = {"model/blocks.1.norm1.weight": torch.zeros(16, dtype=torch.int64), "model/version": 3}
    told = [
        "weight blocks.1.norm1.weight is not a tensor of real numbers",
        "weight version is not a tensor of real numbers",
    ]
    assert _problems(PRETRAINED, tmp_path, edit) == told


def test_without_a_teacher_in_the_file_it_starts_as_the_student(tmp_path: Path) -> None:
    path = edited(PRETRAINED, tmp_path / "edited.pt", lambda contents: _set(contents, {"model/_ema": ...}))
    imported = import_checkpoint(path)
    assert isinstance(imported.model, Pretrainer)
    student = imported.model.student.encoder.state_dict()
    torch.testing.assert_close(imported.model.teacher.state_dict(), student, rtol=0, atol=0)
    assert imported.provenance["imported"]["teacher"] == "a copy of the student"
    assert torch.equal(student["alibi.scale"], torch.load(path, weights_only=True)["model"][
        "modality_encoders.AUDIO.alibi_scale"].flatten())  # fmt: skip


def test_one_scale_for_all_heads_and_scales_that_were_not_learned(tmp_path: Path) -> None:
    scale = "modality_encoders.AUDIO.alibi_scale"
    one = torch.full((1, 1, 1, 1, 1), 0.7)
    edit: Edit = {f"model/{scale}": one, f"model/_ema/{scale}": one, f"{AUDIO}/learned_alibi_scale_per_head": False}
    path = edited(PRETRAINED, tmp_path / "one.pt", lambda contents: _set(contents, edit))
    imported = import_checkpoint(path)
    assert torch.equal(imported.model.state_dict()["student.encoder.alibi.scale"], torch.full((4,), 0.7))
    assert imported.provenance["imported"]["not_taken_over"] == [
        "cfg.model.modalities.audio.learned_alibi_scale_per_head = False"
    ]
    edit = {
        f"model/{scale}": ...,
        f"model/_ema/{scale}": ...,
        f"{AUDIO}/learned_alibi_scale": False,
        f"{AUDIO}/alibi_scale": 0.5,
    }
    path = edited(PRETRAINED, tmp_path / "fixed.pt", lambda contents: _set(contents, edit))
    state = import_checkpoint(path).model.state_dict()
    assert torch.equal(state["student.encoder.alibi.scale"], torch.full((4,), 0.5))
    assert torch.equal(state["teacher.alibi.scale"], torch.full((4,), 0.5))


def test_attributes_of_a_namespace_and_references_in_them(tmp_path: Path) -> None:
    """Older files keep a flat argparse.Namespace; omegaconf leaves references unresolved."""

    def edit(contents: dict[str, Any]) -> None:
        flat = {**contents["cfg"]["task"], **contents["cfg"]["model"], "arch": "data2vec_multi", "lr": [0.1]}
        flat["modalities"]["audio"] = argparse.Namespace(**flat["modalities"]["audio"])
        contents["args"], contents["cfg"] = argparse.Namespace(**flat), None

    path = edited(PRETRAINED, tmp_path / "args.pt", edit)
    assert import_checkpoint(path).model.config == import_checkpoint(PRETRAINED).model.config
    changes = {
        f"{AUDIO}/sample_rate": "${task.sample_rate}",
        f"{MODEL}/sample_rate": "${model.modalities.audio.sample_rate}",
    }
    path = edited(PRETRAINED, tmp_path / "references.pt", lambda contents: _set(contents, changes))
    assert import_checkpoint(path).model.model_config.front_end.sample_rate == 8000
    changes = {f"{NESTED}/embed_dim": "${model.num_heads}", f"{NESTED}/num_heads": "${model.num_heads}"}
    assert any("num_heads" in line for line in _problems(FINETUNED, tmp_path, changes))  # a circle ends


def test_strange_values_never_give_another_error() -> None:
    """Every key of both configurations in turn, replaced by what does not belong there."""
    strange = ["x", None, -1, 0, 1e99, math.nan, math.inf, [], {}, (1, 2), True, b"x", 1 << 100]
    rng, refused = random.Random(0), 0
    for path in (PRETRAINED, FINETUNED):
        cfg = torch.load(path, weights_only=True)["cfg"]
        nested = cfg["model"].get("w2v_args") or cfg
        audio = nested["model"]["modalities"]["audio"]
        for section in (cfg, cfg["model"], cfg["task"], nested["model"], nested["model"]["modalities"], audio):
            for key, kept in list(section.items()):
                for value in rng.sample(strange, 4):
                    section[key] = copy.copy(value)
                    try:
                        read_config(cfg)
                    except ValueError as error:
                        refused += bool(str(error))
                section[key] = kept
        read_config(cfg)
    assert refused > 200


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("[(127, 63, 1)] +[(8, 10, 5)] + [(8, 3, 2)] * 3", [(127, 63, 1), (8, 10, 5), *[(8, 3, 2)] * 3]),
        ("2 * [(1, 2, 3)] + ([(4, 5, 6)] + [(7, 8, 9)]) * 2", [(1, 2, 3)] * 2 + [(4, 5, 6), (7, 8, 9)] * 2),
        (" [[512, 10, 5], (512, 3, 2),] ", [(512, 10, 5), (512, 3, 2)]),
        ([(512, 10, 5), [512, 3, 2]], [(512, 10, 5), (512, 3, 2)]),
    ],
)
def test_layers_written_as_text(text: Any, layers: list[tuple[int, int, int]]) -> None:
    assert parse_layers(text) == tuple(layers)
    assert parse_layers(write_layers(tuple(layers))) == tuple(layers)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "512", "[(1, 2)]", "[(1, 2, 3, 4)]", "[(1, 2, 3.0)]", "[(1, 2, 'x')]", "[(1, 2, True)]",
        "__import__('os').system('true')", "[(1, 2, 3)] * __import__('os')", "[x for x in ()]",
        "[(1, 2, 3)] - [(1, 2, 3)]", "[(1, 2, 3)" * 3000, "\x00", "1" * 200_000, None, 5, {"a": 1},
        "[(1, 2, 3)] * 10**9", "[(1, 2, 3)] * 65", "[(1, 2, 3)] * 1000000000000", "[(1, 2, 3)]" + " + [(1, 2, 3)]" * 64,
        "(" * 5000, "[(1, 2, 3)]" + " + [(1, 2, 3)]" * 5000,
        "*[(1, 2, 3)]", "[(lambda: 1, 2, 3)]", "[(1, 2, 3)][0]",
    ],
)  # fmt: skip
def test_other_text_is_no_list_of_layers(text: Any) -> None:
    with pytest.raises(ValueError) as error:
        parse_layers(text)
    assert "\n" not in str(error.value)


def test_labels_written_as_text() -> None:
    assert parse_labels("['aa','bb',\"c'c\"]") == ["aa", "bb", "c'c"]
    assert parse_labels(repr(["é", "a b", "\\"])) == ["é", "a b", "\\"]
    assert parse_labels(["aa"]) == ["aa"] and parse_labels("[]") == []
    for text in ("'aa'", "[1]", "open('x')", "[open('x')]", "['a' + 'b']", "['a\\n']", "['\\x1b[31m']", None, [1], "["):
        with pytest.raises(ValueError):
            parse_labels(text)
