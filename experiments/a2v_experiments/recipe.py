"""Recipes: one YAML file describes one experiment, completely and validated before anything runs.

`extends: NAME` takes another recipe (bundled, or a file beside this one) as the parent; `--set a.b=value`
overrides single keys. Unknown keys are refused, and every error names file, key, value and what would be right.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from a2v_data.bcl import BclConfig
from a2v_data.pack import PackConfig
from a2v_eval.evaluation import EvaluationConfig
from a2v_model.config import FinetuneConfig, ModelConfig, PretrainConfig, check_together
from a2v_model.presets import PRESETS
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from .errors import UserError

BUNDLED = Path(__file__).parent / "recipes"
Positive = Annotated[int, Field(gt=0)]
KIND = re.compile(r"^constrained-|\[")  # what pydantic puts into an error's place for each kind a value may have


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SyntheticConfig(Section):
    """The synthetic corpus: length in minutes and the seed that it is made from."""

    minutes: float = Field(default=40, gt=0)
    seed: int = 0


class DataConfig(PackConfig):
    """Where recordings come from and how they are cut.

    source: 'synthetic', or a folder (relative to where the command runs) of recordings with `annotations.csv`,
    or of MeerKAT's layout. segment_s: seconds of one training segment.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    source: str
    sample_rate: Annotated[int, Field(ge=100, le=1_000_000)]
    synthetic: SyntheticConfig = SyntheticConfig()
    segment_s: float = Field(default=10.0, gt=0)


class FoldsConfig(Section):
    """Stratified folds: `count` are made, those listed in `run` (None: all) are finetuned and evaluated.

    group: regular expression with one group, found in every recording's name: recordings with the same group (an
    animal, a day, a site) never straddle train and evaluation; None: each recording is its own group.
    holdout: instead of `count` folds a single one, fold 0, evaluated on recordings that are held out: a share of the
    groups (0.2), chosen so that class shares are alike, or a regular expression that is found in the names of the
    groups to hold out ('^(bird07|bird12)$').
    label_shares: shares of each train fold's labelled recordings that are used, one finetuning for each.
    """

    count: int = Field(default=5, ge=2)
    run: list[int] | None = None
    seed: int = 0
    group: str | None = None
    holdout: float | str | None = None
    label_shares: list[Annotated[float, Field(gt=0, le=1)]] = [1.0]

    @field_validator("group")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None and _compiled(pattern).groups != 1:
            raise ValueError("must have exactly one group in parentheses, for example ^(bird[0-9]+)_")
        return pattern

    @field_validator("holdout")
    @classmethod
    def _readable(cls, held: float | str | None) -> float | str | None:
        if isinstance(held, str):
            _compiled(held)
        elif held is not None and not 0 < held < 1:
            raise ValueError(f"is {held:g}; a share must be above 0 and below 1 (an expression stands in quotes)")
        return held

    @model_validator(mode="after")
    def _run_exists(self) -> FoldsConfig:
        wrong = [fold for fold in self.run or [] if not 0 <= fold < self.number]
        if wrong:
            known = f"with count {self.count} they are 0 to {self.count - 1}"
            known = known if self.holdout is None else "a hold-out is fold 0"
            raise ValueError(f"fold {wrong[0]} does not exist: {known}")
        if self.run is not None and (not self.run or len(set(self.run)) < len(self.run)):
            raise ValueError(f"run = {self.run}: must name at least one fold, and each only once (null: all folds)")
        return self

    @property
    def number(self) -> int:
        """How many folds there are."""
        return self.count if self.holdout is None else 1

    @property
    def selected(self) -> list[int]:
        return list(range(self.number)) if self.run is None else self.run


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None


class OptimizerConfig(Section):
    """AdamW with linear warm-up from `warmup_from` and a cosine down to `final_learning_rate` (spec 5 and 7)."""

    learning_rate: float = Field(default=1e-4, gt=0)
    warmup_updates: int = Field(default=0, ge=0)
    warmup_from: float = Field(default=0.0, ge=0)
    final_learning_rate: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(default=1e-6, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    gradient_clip: float = Field(default=1.0, gt=0)


class LoopConfig(Section):
    """One training stage.

    An update's global batch is `micro_batches` independent batches of `segments` segments each. They are spread
    over the workers, so the result does not depend on how many workers there are. `gradient_checkpointing` (less
    memory, about a third more time) and `compile` (torch.compile: minutes at the start, then faster on a GPU)
    change no result beyond rounding and are not part of a run's fingerprint.
    """

    updates: Positive
    segments: int = Field(default=8, ge=2)
    micro_batches: Positive = 1
    random_offset: bool = True  # draw segments at any offset of a recording, not only at multiples of segment_s
    optimizer: OptimizerConfig = OptimizerConfig()
    bcl: BclConfig | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False
    log_every: Positive = 10
    checkpoint_every: Positive = 200
    seed: int = 0


class PretrainStage(PretrainConfig, LoopConfig):
    """Self-distillation on all recordings of the corpus, labelled or not; labels are not read."""


class FinetuneStage(FinetuneConfig, LoopConfig):
    """Supervised training of the detector on one fold."""


class EvaluateStage(EvaluationConfig):
    """Scores on a fold's evaluation recordings, by both protocols.

    overlap_s: seconds that neighbouring windows share when a recording is longer than a segment.
    """

    overlap_s: float = Field(default=0.5, ge=0)


class RayConfig(Section):
    """num_workers 0 trains in this process; 1 or more starts Ray Train workers (address None: a local Ray).

    min_workers: training goes on with as few as these when nodes leave, and with more again, up to num_workers, when
    nodes come; None: it waits for a replacement. An update's batch stays what it is.
    max_failures: how often a worker that fails or whose node dies is started again, from the last checkpoint.
    """

    num_workers: int = Field(default=0, ge=0)
    min_workers: Positive | None = None
    cpus_per_worker: float = Field(default=1, gt=0)
    use_gpu: bool = False
    max_failures: int = Field(default=3, ge=0)
    address: str | None = None

    @model_validator(mode="after")
    def _fewer_at_least(self) -> RayConfig:
        if self.min_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(f"min_workers = {self.min_workers}: must not be above num_workers ({self.num_workers})")
        return self


class Recipe(Section):
    """A whole experiment. `model` is a preset's name or a model configuration with, if wanted, `preset:` as base."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    variant: str = "default"
    data: DataConfig
    folds: FoldsConfig = FoldsConfig()
    model: ModelConfig
    pretrain: PretrainStage | None
    finetune: FinetuneStage
    evaluate: EvaluateStage = EvaluateStage()
    ray: RayConfig = RayConfig()

    @model_validator(mode="after")
    def _sizes_agree(self) -> Recipe:
        model_rate, data_rate = self.model.front_end.sample_rate, self.data.sample_rate
        if model_rate != data_rate:
            raise ValueError(
                f"model.front_end.sample_rate ({model_rate} Hz) and data.sample_rate ({data_rate} Hz) must be equal"
            )
        if self.evaluate.overlap_s >= self.data.segment_s:
            raise ValueError(f"evaluate.overlap_s ({self.evaluate.overlap_s} s) must be less than data.segment_s")
        samples, stride = self.data.segment_s * data_rate, self.model.front_end.stride
        if abs(samples / stride - round(samples / stride)) > 1e-6:
            raise ValueError(
                f"data.segment_s = {self.data.segment_s}: must be a whole number of frames of {stride / data_rate} s"
            )
        for name, stage in (("pretrain", self.pretrain), ("finetune", self.finetune)):
            if stage is not None and self.ray.num_workers > stage.micro_batches:
                raise ValueError(
                    f"ray.num_workers = {self.ray.num_workers}: {name}.micro_batches = {stage.micro_batches} would"
                    " leave workers idle; lower one or raise the other"
                )
        for stage in (self.pretrain, self.finetune):
            if stage is not None:
                check_together(self.model, stage)
        return self


def load_recipe(name: str, overrides: list[str] | None = None) -> Recipe:
    """Read, complete and validate a recipe.

    name: a path, or the name of a bundled recipe with or without `.yaml`. overrides: `key.path=value`, the value
    in YAML. Raises UserError naming file, key and what would be right.
    """
    path = find_recipe(name)
    tree = _with_parents(path, ())
    for override in overrides or []:
        _apply(tree, override)
    _expand_preset(tree, path)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain(error, Recipe, path.name)) from None


def find_recipe(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        raise UserError(f"{name}: is a folder; a recipe is a YAML file")
    if path.is_file():
        return path
    bundled = BUNDLED / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if bundled.is_file():
        return bundled
    known = sorted(str(p.relative_to(BUNDLED).with_suffix("")) for p in BUNDLED.rglob("*.yaml"))
    raise UserError(f"{name}: no such recipe; give a YAML file or one of: {', '.join(known)}")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path.name}: not readable as YAML: {reason}") from None
    except OSError as error:
        raise UserError(f"{path.name}: cannot be read: {error.strerror}") from None
    if not isinstance(tree, dict):
        kind = type(tree).__name__
        raise UserError(f"{path.name}: a recipe is a mapping of keys (name, data, model, ...), not {kind}")
    return tree


def _with_parents(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise UserError(f"{path.name}: extends: the recipes extend each other in a circle")
    tree = _read_yaml(path)
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    beside = path.parent / str(parent)
    base = _with_parents(beside if beside.is_file() else find_recipe(str(parent)), (*seen, path.resolve()))
    if isinstance(base.get("model"), str):  # so that what this recipe says of the model stands on top of the preset
        base["model"] = {"preset": base["model"]}
    return merge(base, tree)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: mappings are merged key by key, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else value
    return result


def _apply(tree: dict[str, Any], override: str) -> None:
    keys, sign, text = override.partition("=")
    if not sign or not keys:
        raise UserError(f"--set {override}: expected KEY=VALUE, for example pretrain.mask_probability=0.5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not readable as YAML") from None
    *parents, last = keys.split(".")
    node = tree
    for key in parents:
        if not isinstance(node.get(key), dict):
            if key == "model" and isinstance(node.get(key), str):
                node[key] = {"preset": node[key]}
            else:
                node[key] = {}
        node = node[key]
    node[last] = value


def _expand_preset(tree: dict[str, Any], path: Path) -> None:
    """`model: NAME`, or a mapping with `preset: NAME`, becomes the whole model configuration.

    What a preset says of pretraining and finetuning stands under what the recipe says. Where the preset averages
    all main blocks, so does a recipe that changes their number.
    """
    value = tree.get("model")
    if isinstance(value, str):
        value = {"preset": value}
    if not isinstance(value, dict) or "preset" not in value:
        return
    over = {key: item for key, item in value.items() if key != "preset"}
    name = value["preset"]
    if not isinstance(name, str) or name not in PRESETS:
        raise UserError(f"{path.name}: model.preset = {name!r}: unknown; one of: {', '.join(sorted(PRESETS))}")
    preset = PRESETS[name]
    tree["model"] = merge(preset.model.model_dump(mode="json"), over)
    if isinstance(tree.get("pretrain"), dict):
        tree["pretrain"] = merge(preset.pretrain.model_dump(mode="json"), tree["pretrain"])
    if isinstance(tree.get("finetune"), dict):
        finetune = preset.finetune.model_dump(mode="json")
        if preset.finetune.average_layers == preset.model.encoder.depth and isinstance(tree["model"]["encoder"], dict):
            finetune["average_layers"] = tree["model"]["encoder"].get("depth")
        tree["finetune"] = merge(finetune, tree["finetune"])


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Every problem of a configuration in one line each: file, key, value, what would be right."""
    lines = []
    for item in _as_meant(error):
        keys = [str(part) for part in item["loc"]]
        key = ".".join(keys)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            close = difflib.get_close_matches(keys[-1], _keys_at(model, keys[:-1]), n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(_keys_at(model, keys[:-1]))}"
            lines.append(f"{where}: {key}: unknown key{hint}")
        elif item["type"] == "missing":
            lines.append(f"{where}: {key}: missing")
        elif not key:
            lines.append(f"{where}: {message}")
        elif item["type"] == "value_error":
            lines.append(f"{where}: {key}: {message}")
        else:
            lines.append(f"{where}: {key} = {item['input']!r}: {message[0].lower() + message[1:]}")
    return "\n".join(lines)


def _as_meant(error: ValidationError) -> list[ErrorDetails]:
    """A value that may be of several kinds (a number, a mapping) has an error for each: keep that of the kind meant."""
    groups: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for item in error.errors():
        loc = item["loc"]
        kind = next((place for place, part in enumerate(loc) if KIND.search(str(part))), None)
        field = loc if kind is None else loc[:kind]
        item["loc"] = field + (() if kind is None else loc[kind + 1 :])
        groups.setdefault(field, []).append(item)
    kept = []
    for items in groups.values():
        right_kind = [item for item in items if not item["type"].endswith(("_type", "_parsing"))]
        kept += right_kind or [max(items, key=lambda item: len(item["loc"]))]
    return kept


def _keys_at(model: type[BaseModel], keys: list[str]) -> list[str]:
    """The known keys of the configuration that stands at a dotted path."""
    for key in keys:
        field = model.model_fields.get(key)
        nested = _nested_model(field.annotation) if field else None
        if nested is None:
            return []
        model = nested
    return list(model.model_fields)


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _nested_model(part)
        if found:
            return found
    return None
