"""The original's configuration as this package's, and back.

A checkpoint's `cfg` has the sections model, task, criterion, optimizer ...; a finetuned one has the pretraining
configuration below `model.w2v_args`. What changes the function that the network (or the pretraining loss) computes
and has no counterpart here is refused by name; what only concerns training is taken note of; both are told from keys
that mean nothing to a model by the tables of `original_fields`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from a2v_model import original_fields as fields
from a2v_model.config import FinetuneConfig, ModelConfig, PretrainConfig, check_together
from a2v_model.original_fields import Fields, Values
from a2v_model.original_layers import parse_labels, parse_layers
from a2v_model.pickle_values import shown

Tree = dict[str, Any]
_NEUTRAL: tuple[Any, ...] = (None, False, 0, "", [], {}, ())
_MISSING = object()


@dataclass(frozen=True)
class OriginalConfig:
    """What a checkpoint says of its model. `alibi_scale` is the scale of heads where the file has no tensor of it;
    `notes` names what concerned the original's training and has no field here."""

    model: ModelConfig
    objective: PretrainConfig | FinetuneConfig
    classes: list[str]
    alibi_scale: float
    bcl: Tree
    notes: list[str]


@dataclass
class _Findings:
    """What was wrong or worth a note, and the unknown keys that the user has vouched for."""

    ignored: Collection[str]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Section:
    """One section: every key that was asked for is known; `finish` refuses the rest."""

    def __init__(self, name: str, values: Any, findings: _Findings) -> None:
        self.name, self.findings = name, findings
        self.values: Tree = values if isinstance(values, dict) else {}
        self.known: set[str] = set()

    def get(self, key: str, default: Any = _MISSING) -> Any:
        self.known.add(key)
        value = self.values.get(key, fields.ABSENT.get(key, default))
        if value is _MISSING:
            self.findings.problems.append(f"{self.name}.{key} is missing")
            return None
        return value

    def take(self, table: Fields) -> Tree:
        """{field here: value}."""
        return {own: self.get(key) for key, own in table.items()}

    def require(self, table: Values) -> None:
        """Refuse other values: they change what is computed."""
        for key, text in self._others(table):
            self.findings.problems.append(f"{self.name}.{key} = {text}: a2v only knows {shown(table[key][0])}")

    def note(self, table: Values) -> None:
        """Take note of other values: they concern the original's training only."""
        for key, text in self._others(table):
            self.findings.notes.append(f"{self.name}.{key} = {text}")

    def _others(self, table: Values) -> list[tuple[str, str]]:
        self.known.update(table)
        return [
            (key, shown(self.values[key], 60))
            for key, allowed in table.items()
            if key in self.values and not any(_same(self.values[key], value) for value in allowed)
        ]

    def skip(self, *keys: str) -> None:
        self.known.update(keys)

    def parsed(self, key: str, parse: Any) -> Any:
        text = self.get(key)
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            self.findings.problems.append(f"{self.name}.{key} = {shown(text, 60)}: {error}")
            return None

    def finish(self) -> None:
        for key, value in self.values.items():
            name = shown(f"{self.name}.{key}")
            if key in self.known or any(_same(value, neutral) for neutral in _NEUTRAL):
                continue  # None, False, 0 and the like switch nothing on
            if name in self.findings.ignored:
                self.findings.notes.append(f"{name} = {shown(value, 60)} (unknown, ignored as asked)")
            else:
                self.findings.problems.append(
                    f"{name} = {shown(value, 60)}: unknown here, and it may change what the network computes "
                    f"(if you know that it does not: --ignore {name})"
                )


def _same(value: Any, other: Any) -> bool:
    return type(value) in (type(other), int, float, bool) and value == other


def read_config(cfg: Any, ignored: Collection[str] = (), overrides: Any = None) -> OriginalConfig:
    """The configuration in a checkpoint's `cfg` (or `args`, its attributes as a dict).

    `ignored` are unknown keys to leave aside, as the messages name them. `overrides` is what `export` wrote for
    fields that the original does not have. ValueError with one line for each problem, all of them.
    """
    cfg = _sections(cfg)
    findings = _Findings(ignored)
    if isinstance(cfg["model"].get("w2v_args"), dict):
        found = _finetuned(cfg, findings)
    elif isinstance(cfg["model"].get("modalities"), dict):
        found = _pretrained(cfg, findings)
    elif "w2v_args" in cfg["model"]:
        raise ValueError("cfg.model.w2v_args is empty: the configuration of the pretrained model is missing")
    else:
        name = shown(cfg["model"].get("_name"))
        raise ValueError(
            f"cfg.model ({name}) is not animal2vec: neither modalities (pretrained) nor w2v_args (finetuned)"
        )
    if not findings.problems:
        try:
            return _built(found, findings, overrides)
        except ValidationError as error:
            findings.problems += [_line(part) for part in error.errors()]
        except ValueError as error:
            findings.problems.append(str(error))
    raise ValueError("\n".join(findings.problems))


def _line(error: Any) -> str:
    """One of pydantic's errors."""
    if error["type"] == "value_error":  # of a validator of ours, which names the field itself
        return str(error["ctx"]["error"])
    where = ".".join(str(part) for part in error["loc"] if not str(part).startswith("["))  # kinds are no keys
    return f"{where} = {shown(error['input'], 60)}: {error['msg']}" if where else str(error["msg"])


def _sections(cfg: Any) -> Tree:
    """cfg with a section model; a flat argparse.Namespace is its own section model and task."""
    if not isinstance(cfg, dict) or not cfg:
        raise ValueError("no configuration in it (neither cfg nor args)")
    if "modalities" in cfg or "w2v_args" in cfg:
        cfg = {"model": cfg, "task": cfg, "flat": True}
    if not isinstance(cfg.get("model"), dict):
        raise ValueError("the configuration has no section model")
    return _resolved(cfg, (cfg,))


def _resolved(value: Any, roots: tuple[Tree, ...]) -> Any:
    """omegaconf's references '${section.key}' to numbers, text and the like replaced by what they refer to."""
    if isinstance(value, dict):
        if isinstance(value.get("model"), dict) and value is not roots[-1]:
            roots = (*roots, value)  # a nested configuration was a whole one when it was written
        return {key: _resolved(item, roots) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, roots) for item in value]
    for _ in range(10):
        if not isinstance(value, str) or not (match := re.fullmatch(r"\$\{([\w.]+)\}", value)):
            return value
        targets = [target for root in reversed(roots) if _scalar(target := _looked_up(match[1], root))]
        if not targets:
            return value
        value = targets[0]
    return value


def _scalar(value: Any) -> bool:
    return value is not _MISSING and not isinstance(value, (dict, list, tuple))


def _looked_up(path: str, root: Any) -> Any:
    for key in path.split("."):
        if not isinstance(root, dict) or key not in root:
            return _MISSING
        root = root[key]
    return root


def _built(found: Tree, findings: _Findings, overrides: Any) -> OriginalConfig:
    detector = "finetune" in found
    objective_name = "finetune" if detector else "pretrain"
    if isinstance(overrides, dict):
        for part in ("model", objective_name):
            found[part] = _merged(found[part], overrides.get(part))
    model = ModelConfig.model_validate(found["model"])
    objective_class = FinetuneConfig if detector else PretrainConfig
    objective = objective_class.model_validate(found[objective_name])
    check_together(model, objective)
    front_end, _ = fields.original_kinds(model)
    if front_end.sinc and front_end.kernel > front_end.sample_rate:
        raise ValueError(f"Sinc filters of {front_end.kernel} taps: longer than a second")
    return OriginalConfig(
        model, objective, found.get("classes", []), found["alibi_scale"], found["bcl"], findings.notes
    )


def _merged(base: Tree, over: Any) -> Tree:
    """`over` on top of `base`, section by section."""
    result = dict(base)
    for key, value in over.items() if isinstance(over, dict) else ():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = _merged(base[key], value) if both else value
    return result


def _pretrained(cfg: Tree, findings: _Findings) -> Tree:
    model = _Section("cfg.model", cfg["model"], findings)
    audio = _Section("cfg.model.modalities.audio", _audio(cfg["model"]), findings)
    decoder = _Section("cfg.model.modalities.audio.decoder", audio.get("decoder"), findings)
    found = _network(cfg, model, audio, findings)
    pretrain = model.take(fields.OBJECTIVE) | {
        "mask_noise": audio.get("mask_noise_std"),
        "mask_length": audio.get("mask_length"),
        "decoder": decoder.take(fields.DECODER),
    }
    pretrain["mask_probability"] = _start_probability(audio.get("mask_prob"), pretrain["mask_length"])
    model.require(fields.LOSS)
    _check_loss_scale(model)
    audio.require(fields.AUDIO_LOSS)
    audio.note(fields.AUDIO_TRAINING)
    decoder.require(fields.DECODER_LOSS)
    decoder.skip(*fields.DECODER_MEANINGLESS)
    _finish(cfg, model, audio, decoder)
    return found | {"pretrain": pretrain, "bcl": _bcl(cfg["model"])}


def _finetuned(cfg: Tree, findings: _Findings) -> Tree:
    outer = _Section("cfg.model", cfg["model"], findings)
    nested = cfg["model"]["w2v_args"]
    nested = nested if isinstance(nested.get("model"), dict) else {"model": nested, "flat": True}
    model = _Section("cfg.model.w2v_args.model", nested["model"], findings)
    audio = _Section("cfg.model.w2v_args.model.modalities.audio", _audio(nested["model"]), findings)
    found = _network(nested | {"task": cfg.get("task")}, model, audio, findings)
    finetune = outer.take(fields.FINETUNE)
    finetune["mlp_output_dropout"] = finetune["activation_dropout"]  # one rate for both, as in pretraining
    finetune["prenet_layerdrop"] = finetune["layerdrop"]  # the original finetunes prenet and main blocks alike
    finetune["mask_probability"] = _start_probability(outer.get("mask_prob"), finetune["mask_length"])
    if not outer.get("apply_mask", True):
        finetune |= {"mask_probability": 0.0, "channel_mask_probability": 0.0}
    zero_mask = outer.get("zero_mask", False)
    finetune["mask_noise"] = 0.0 if zero_mask else audio.get("mask_noise_std")
    multiplier = outer.get("feature_grad_mult")
    finetune["freeze_front_end"] = multiplier == 0
    if multiplier not in (0, 1):
        findings.notes.append(f"cfg.model.feature_grad_mult = {shown(multiplier, 60)}")
    classes = outer.parsed("unique_labels", parse_labels)
    outer.require(fields.FINETUNE_NETWORK)
    outer.note(fields.FINETUNE_TRAINING)
    outer.skip(*fields.FINETUNE_MEANINGLESS)
    model.skip(*fields.LOSS, *fields.OBJECTIVE, "loss_scale")  # of pretraining, which is over
    audio.skip(*fields.AUDIO_LOSS, *fields.AUDIO_TRAINING, "mask_noise_std", "mask_length", "mask_prob", "decoder")
    if not cfg.get("flat"):
        outer.finish()
    _finish(nested, model, audio)
    return found | {"finetune": finetune, "classes": classes, "bcl": _bcl(cfg["model"])}


def _audio(model: Tree) -> Tree:
    modalities = model.get("modalities")
    audio = modalities.get("audio") if isinstance(modalities, dict) else None
    if not isinstance(audio, dict):
        raise ValueError("the configuration has no modalities.audio: a2v only reads models of audio")
    return audio


def _finish(cfg: Tree, model: _Section, *others: _Section) -> None:
    model.skip("modalities", *fields.MEANINGLESS)
    for section in (*others, *(() if cfg.get("flat") else (model,))):
        section.finish()


def _start_probability(mask_prob: Any, length: Any) -> Any:
    """Published configurations write start probability times length."""
    numbers = isinstance(mask_prob, (int, float)) and isinstance(length, int)
    return mask_prob / length if numbers and length > 0 else 0.0


def _check_loss_scale(model: _Section) -> None:
    scale, dim = model.get("loss_scale", None), model.get("embed_dim")
    numbers = isinstance(scale, (int, float)) and isinstance(dim, int) and dim > 0
    if scale is not None and not (numbers and abs(scale - dim**-0.5) < 1e-9):
        model.findings.problems.append(f"{model.name}.loss_scale = {shown(scale)}: a2v only knows 1 / sqrt(embed_dim)")


def _network(cfg: Tree, model: _Section, audio: _Section, findings: _Findings) -> Tree:
    """Front end and encoder."""
    encoder = model.take(fields.ENCODER) | audio.take(fields.AUDIO)
    encoder["mlp_output_dropout"] = encoder["activation_dropout"]  # the original's MLP drops twice with one rate
    after_mlp = model.get("post_mlp_drop", encoder["dropout"])
    if after_mlp != encoder["dropout"]:
        findings.notes.append(f"{model.name}.post_mlp_drop = {shown(after_mlp)}, encoder_dropout taken for both")
    model.require(fields.NETWORK)
    model.note(fields.TRAINING)
    audio.require(fields.AUDIO_NETWORK)
    audio.skip("sample_rate", "conv_feature_layers", *fields.AUDIO_MEANINGLESS, *fields.AUDIO_ALIBI)
    encoder["learned_alibi_scale"] = audio.get("learned_alibi_scale", False)
    if encoder["alibi"]:
        audio.require(fields.AUDIO_ALIBI | {"num_alibi_heads": (encoder["heads"],)})
    alibi_scale = audio.get("alibi_scale", 1.0)
    if not isinstance(alibi_scale, (int, float)):
        findings.problems.append(f"{audio.name}.alibi_scale = {shown(alibi_scale, 60)}: should be a number")
    front_end = _front_end(cfg, model, audio, findings)
    return {"model": {"front_end": front_end, "encoder": encoder}, "alibi_scale": alibi_scale}


def _front_end(cfg: Tree, model: _Section, audio: _Section, findings: _Findings) -> Tree:
    model.skip("sample_rate", "conv_feature_layers")
    source = audio if "conv_feature_layers" in audio.values else model
    layers = source.parsed("conv_feature_layers", parse_layers) or ()
    task = cfg["task"] if isinstance(cfg.get("task"), dict) else {}
    rates = [values.get("sample_rate") for values in (audio.values, model.values, task)]
    rates = [rate for rate in rates if rate is not None]
    if not rates:
        findings.problems.append(f"{audio.name}.sample_rate is missing")
    elif any(rate != rates[0] for rate in rates):
        findings.problems.append(f"{audio.name}.sample_rate = {shown(rates[0])}, elsewhere {shown(rates[-1])}: unclear")
    if task.get("normalize", True) is not True:
        findings.problems.append("cfg.task.normalize = False: a2v only knows waveforms of zero mean and unit variance")
    front_end: Tree = {"sample_rate": rates[0] if rates else None, "sinc": audio.get("sinc_input")}
    front_end["sinc_activation"] = "pswish" if audio.get("use_pswish") else "gelu"
    audio.skip(*fields.AUDIO_SINC)
    if front_end["sinc"] and layers:
        audio.require(fields.AUDIO_SINC)
        (filters, kernel, stride), *layers = layers
        front_end |= {"sinc_filters": filters, "sinc_kernel": kernel}
        if stride != 1:
            findings.problems.append(f"{source.name}.conv_feature_layers: a Sinc layer of stride {stride}, should be 1")
    return front_end | {"layers": tuple(layers)}


def _bcl(model: Tree) -> Tree:
    """Settings of between-classes learning, named as in a recipe's section bcl."""
    found = {key: model.get(key) for key in fields.BCL}
    if all(value is None for value in found.values()):
        return {}
    return {
        "probability": found["mixup_prob"],
        "window_s": found["mixing_window_length"],
        "min_ratio": found["source_mixup"],
        "per_row": None if found["same_mixup"] is None else not found["same_mixup"],
        "mix_targets": found["target_mixup"],
        "gain": found["gain_mode"],
    }
