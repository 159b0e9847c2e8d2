"""The sections of a recipe, validated: what each key means, its range and unit. `recipe.py` reads the files."""

from __future__ import annotations

from typing import Annotated, Any

from a2v_data.pack import PackConfig
from a2v_eval.evaluation import EvaluationConfig
from a2v_eval.events import EventConfig
from a2v_model.config import EarConfig, ModelConfig, check_together
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from .boxes import check_boxes
from .corpora import are_several, check_corpora, with_corpora
from .folds import CROSS, FoldsConfig, Share
from .streams import check_streams, with_streams
from .sweep import Positive, Section, SweepConfig, none_as_empty
from .trainings import USUAL_TEMPERATURE, FinetuneStage, PretrainStage, left_out
from .validating import with_validation


class SyntheticConfig(Section):
    """The synthetic corpus: length in minutes and the seed that it is made from. accelerometer: with what one would
    have recorded beside it, and digging that sounds as eating does (`data.streams`: {accelerometer: {columns: [x, y,
    z], rate: 50}})."""

    minutes: float = Field(default=40, gt=0)
    seed: int = 0
    accelerometer: bool = Field(default=False, exclude_if=lambda wanted: not wanted)


class DataConfig(PackConfig):
    """Where recordings come from and how they are cut.

    source: 'synthetic', or a folder (relative to where the command runs) of recordings with `annotations.csv`,
    or of MeerKAT's layout. sample_rate: Hz, the model's; with keep_rates the highest that recordings keep. segment_s:
    seconds of one training segment. weight: of one of several corpora in `pretrain_data`, by how much more often it is
    heard than its hours say (None: 1).
    """

    model_config = ConfigDict(allow_inf_nan=False)

    source: str
    sample_rate: Annotated[int, Field(ge=100, le=1_000_000)]
    synthetic: SyntheticConfig = SyntheticConfig()
    segment_s: float = Field(default=10.0, gt=0)
    licence: str | None = Field(default=None, max_length=200, pattern=r"^\S(.*\S)?$", exclude_if=left_out)
    weight: float | None = Field(default=None, gt=0, exclude_if=left_out)


def _kind_of_corpora(given: Any) -> str:
    return "[several]" if are_several(given, DataConfig.model_fields.keys()) else "[one]"


ADAPT = "adapt"  # name of the recipe that `a2v adapt` makes
FITTED = ("window_s", "min_duration_s", "threshold")  # what `fit_events` decides


class EvaluateStage(EvaluationConfig):
    """Scores on a fold's evaluation recordings, by both protocols.

    overlap_s: seconds that neighbouring windows share when a recording is longer than a segment. fit_events: window and
    shortest duration of each class's events follow from the lengths of its training labels (`a2v_eval.fitting`), events
    are found once, above a low threshold, and calls that follow closely are parted (events.peak_share, .3 where it is
    0); the thresholds of their likelihood, at which calls are counted, are chosen on the validation recordings, where
    there are some. Windows are as long as training's segments: longer ones found less, since an ear's bands have a
    level of their own segment (docs/log.md).
    """

    fit_events: bool = Field(default=False, exclude_if=lambda wanted: not wanted)

    @model_validator(mode="after")
    def _fitted_or_given(self) -> EvaluateStage:
        usual = EventConfig()
        given = [name for name in FITTED if getattr(self.events, name) != getattr(usual, name)]
        if self.fit_events and given:
            raise ValueError(
                f"fit_events = true: the labels decide events.{given[0]}, so what is given has no effect; leave it out,"
                " or say fit_events: false"
            )
        if self.fit_events and self.events.method == "canny":
            raise ValueError("fit_events = true: canny has one window for all classes; leave one of the two out")
        if self.fit_events and self.events.method == "boxes":
            raise ValueError("fit_events = true: boxes has no window to be fitted; leave one of the two out")
        if self.fit_events and self.events.is_own:
            raise ValueError(
                "fit_events = true: a plugin's method has no window to be fitted; leave one of the two out"
            )
        return self

    overlap_s: float = Field(default=0.5, ge=0)


class RayConfig(Section):
    """num_workers 0 trains and evaluates in this process; 1 or more starts Ray Train workers, and as many tasks at once
    evaluate (address None: a local Ray).

    In this process, on a CPU, a model with fewer than 5 million trained parameters computes with one thread: more
    would mostly wait for one another. Others have as many as torch takes (OMP_NUM_THREADS), and a worker has
    cpus_per_worker.

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
    """A whole experiment. `model` is a preset's name or a model configuration with, if wanted, `preset:` as base.

    pretrain_data: another corpus for pretraining, of which no label is read (None: that of `data`), or several, by
    names (`corpora.py`).
    backbone: instead of `pretrain`, the model to finetune: its folder, or its URI in MLflow (`runs:/RUN_ID`).
    finetune: None for pretraining only, without folds and scores. finetune_by_share: label share -> what differs from
    `finetune` there. seeds: everything that is trained is trained with each of these (`pretrain.seed`,
    `finetune.seed`), on the same folds, so that scores deviate over seeds and over folds apart; None: once, with the
    seeds that stand there. sweep: trials of this recipe. plugins: name -> digest of the source of each; a recipe file
    has a list of files, entry points or modules (`plugins.py`).
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    variant: str = "default"
    data: DataConfig
    pretrain_data: (
        Annotated[
            Annotated[DataConfig, Tag("[one]")] | Annotated[dict[str, DataConfig], Tag("[several]")],
            Discriminator(_kind_of_corpora),
        ]
        | None
    ) = None
    folds: FoldsConfig = FoldsConfig()
    model: ModelConfig
    backbone: str | None = None
    pretrain: PretrainStage | None
    finetune: FinetuneStage | None
    finetune_by_share: Annotated[dict[Share, FinetuneStage], BeforeValidator(none_as_empty)] = Field(default={})
    evaluate: EvaluateStage = EvaluateStage()
    seeds: tuple[int, ...] | None = Field(default=None, exclude_if=left_out)
    sweep: SweepConfig | None = None
    ray: RayConfig = RayConfig()
    plugins: dict[str, str] = Field(default={}, exclude_if=lambda plugins: not plugins)

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        return with_streams(with_corpora(with_validation(tree), DataConfig.model_fields.keys()))

    @model_validator(mode="after")
    def _sizes_agree(self) -> Recipe:
        for key, data in self.corpora.items():
            self._check_data(key, data)
        self._check_several()
        if self.evaluate.overlap_s >= self.data.segment_s:
            raise ValueError(f"evaluate.overlap_s ({self.evaluate.overlap_s} s) must be less than data.segment_s")
        for name, stage in self._trainings():
            if self.ray.num_workers > stage.micro_batches:
                raise ValueError(
                    f"ray.num_workers = {self.ray.num_workers}: {name}.micro_batches = {stage.micro_batches} would"
                    " leave workers idle; lower one or raise the other"
                )
        for _, stage in self._trainings():
            check_together(self.model, stage)
        if self.finetune is not None:
            check_boxes(self)
        return self

    def _check_data(self, key: str, data: DataConfig) -> None:
        model_rate, data_rate = self.model.front_end.sample_rate, data.sample_rate
        if model_rate != data_rate:
            raise ValueError(
                f"model.front_end.sample_rate ({model_rate} Hz) and {key}.sample_rate ({data_rate} Hz) must be equal"
            )
        started = self.backbone is not None or self.start is not None or self.name == ADAPT
        check_streams(key, data, self.model, started)
        front_end = self.model.front_end
        if data.keep_rates is not None and not (isinstance(front_end, EarConfig) and front_end.any_rate):
            raise ValueError(f"{key}.keep_rates: needs a model that hears any rate (model.front_end.any_rate: true)")
        if isinstance(front_end, EarConfig) and front_end.any_rate and data.keep_rates != front_end.frame_rate:
            raise ValueError(
                f"{key}.keep_rates: must be the frames a second of a model that hears any rate, "
                f"{front_end.frame_rate:g}, so that it learns from recordings as predict will hear them"
            )
        samples, stride = data.segment_s * data_rate, self.model.front_end.stride
        if abs(samples / stride - round(samples / stride)) > 1e-6:
            raise ValueError(
                f"{key}.segment_s = {data.segment_s}: must be a whole number of frames of {stride / data_rate} s"
            )

    @model_serializer(mode="wrap")
    def _with_no_streams(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """That a model hears none of the streams of its data must be said, or it would be given them again."""
        tree: dict[str, Any] = dumped(self)
        data, model = tree.get("data"), tree.get("model")
        if isinstance(data, dict) and isinstance(model, dict) and data.get("streams") and "streams" not in model:
            model["streams"] = {}
        return tree

    def _check_several(self) -> None:
        """Weights and temperature are of several corpora."""
        several = isinstance(self.pretrain_data, dict)
        for key, data in {"data": self.data, **({} if several else self.corpora)}.items():
            if data.weight is not None:
                raise ValueError(f"{key}.weight: is one of several corpora's (pretrain_data.NAME.weight); leave it out")
        if isinstance(self.pretrain_data, dict):
            check_corpora(self.pretrain_data)
        elif self.pretrain is not None and self.pretrain.temperature != USUAL_TEMPERATURE:
            raise ValueError("pretrain.temperature: is of several corpora (pretrain_data: {NAME: {source: ...}, ...})")

    def _trainings(self) -> list[tuple[str, PretrainStage | FinetuneStage]]:
        by_share = [(f"finetune_by_share.{share:g}", stage) for share, stage in self.finetune_by_share.items()]
        named = [("pretrain", self.pretrain), ("finetune", self.finetune), *by_share]
        return [(name, stage) for name, stage in named if stage is not None]

    @model_validator(mode="after")
    def _parts_agree(self) -> Recipe:
        if self.pretrain is not None and self.backbone is not None:
            raise ValueError("backbone and pretrain exclude each other: with a backbone, pretrain: null")
        self._check_start()
        if self.pretrain is None and self.pretrain_data is not None:
            raise ValueError("pretrain_data is given and pretrain is null: nothing would be trained on it")
        if self.finetune is None:
            if self.pretrain is None:
                raise ValueError("pretrain and finetune are both null: there is nothing to train")
            if self.finetune_by_share:
                raise ValueError("finetune_by_share is given and finetune is null")
            if self.seeds is not None:
                raise ValueError("seeds are for scores to deviate over, and finetune is null; give pretrain.seed")
            if self.sweep is not None:
                raise ValueError("sweep compares trials by their scores, so it needs finetune")
            if self.pretrain.hears == "train" and self.folds.holdout is None:
                raise ValueError(
                    "pretrain.hears = train: keeps the evaluation recordings of each fold out, and with finetune: null"
                    " there are no folds; leave it out, or say with folds.holdout what is not heard"
                )
            if self.folds.refit:
                raise ValueError("folds.refit is true and finetune is null: there is nothing to train on all labels")
        if self.sweep is not None and self.folds.refit:
            raise ValueError(
                "folds.refit = true: a sweep compares trials and leaves no model for new recordings; say folds.refit:"
                " false here, and refit the best trial's values without sweep"
            )
        pruning = self.sweep.pruning if self.sweep is not None else None
        if pruning is not None:
            pruning.check(self.repeats, self.validations, self.ray.num_workers)
        if self.seeds is not None:
            self._check_seeds(self.seeds)
        return self

    def _check_seeds(self, seeds: tuple[int, ...]) -> None:
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds = {list(seeds)}: must be different whole numbers from 0 on, at least one")
        swept: set[str] = set()
        if self.sweep is not None:
            swept = set(self.sweep.parameters) | {key for keys in self.sweep.variants.values() for key in keys}
        for key in ("pretrain.seed", "finetune.seed"):
            if key in swept:
                raise ValueError(f"seeds are given and sweep changes {key}: leave one of the two out")

    def _check_start(self) -> None:
        """What finetuning goes on from has all its weights already, and is one model for all label shares."""
        if self.start is None:
            return
        if self.backbone is not None:
            raise ValueError("finetune.start and backbone exclude each other: its weights would be replaced at once")
        if self.pretrain is not None:
            raise ValueError(
                "finetune.start and pretrain exclude each other: what pretraining learned would be replaced at once;"
                " add --set pretrain=null" + (" --set pretrain_data=null" if self.pretrain_data is not None else "")
            )
        for share, stage in self.finetune_by_share.items():
            if stage.start != self.start:
                raise ValueError(
                    f"finetune_by_share.{share:g}.start = {stage.start}: must be that of finetune, {self.start}"
                )

    @property
    def start(self) -> str | None:
        """The finetuned model that finetuning goes on from."""
        return self.finetune.start if self.finetune is not None else None

    @property
    def pretrains_by_fold(self) -> bool:
        """Whether each fold has a pretraining of its own, without its evaluation recordings."""
        return self.hears_train and self.folds.holdout is None

    @property
    def hears_train(self) -> bool:
        """Whether pretraining hears training recordings only."""
        return self.pretrain is not None and self.pretrain.hears == "train"

    @property
    def pretrain_source(self) -> DataConfig:
        """The data that pretraining hears; of several corpora the first, as they are cut alike."""
        return next(iter(self.heard_corpora.values()))

    @property
    def heard_corpora(self) -> dict[str, DataConfig]:
        """What pretraining hears, by keys."""
        if isinstance(self.pretrain_data, dict):
            return {f"pretrain_data.{name}": data for name, data in self.pretrain_data.items()}
        return {"data": self.data} if self.pretrain_data is None else {"pretrain_data": self.pretrain_data}

    @property
    def corpora(self) -> dict[str, DataConfig]:
        """All that is packed, by keys: `data` first. It is not there where it is one of several that pretraining hears,
        and nothing is finetuned: see `data_key`."""
        own = {} if self.data_key != "data" else {"data": self.data}
        return own | self.heard_corpora

    @property
    def data_key(self) -> str:
        """The key of the corpus that `data` is."""
        if isinstance(self.pretrain_data, dict) and self.finetune is None:
            aside: dict[str, Any] = {"weight": None, "licence": None}  # it is packed as it is without them
            for key, data in self.heard_corpora.items():
                if data.model_copy(update=aside) == self.data.model_copy(update=aside):
                    return key
        return "data"

    def at_share(self, share: float) -> Recipe:
        """The recipe with the finetuning settings of one label share."""
        return self.model_copy(update={"finetune": self.finetune_by_share.get(share, self.finetune)})

    @property
    def validated_share(self) -> float | None:
        """Which share of its training recordings a finetuning holds out, if it is one; of a recipe `at_share`."""
        validates = self.finetune is not None and self.finetune.validation is not None
        share = self.folds.validation
        return share if validates and isinstance(share, float) else None

    @property
    def crosses(self) -> bool:
        """Whether inner folds validate each training recording (`folds.validation: cross`); of a recipe `at_share`."""
        return self.finetune is not None and self.finetune.validation is not None and self.folds.validation == CROSS

    @property
    def is_validated(self) -> bool:
        """Whether every finetuning has scores on recordings that neither it nor an inner model was trained on."""
        stages = [self.at_share(one).finetune for one in self.folds.label_shares]
        return self.folds.validation is not None and all(one and one.validation for one in stages)

    @property
    def validations(self) -> int:
        """How many validations there are in the trainings of one fold, where none has its patience end; 0 too where
        they are those of inner folds."""
        stages = [] if self.crosses else [self.at_share(share).finetune for share in self.folds.label_shares]
        return sum(-(-one.updates // one.validation.every) for one in stages if one and one.validation)

    @property
    def by_seed(self) -> list[Recipe]:
        """The recipe once for each of its seeds, in their order; without `seeds` as it is."""
        return [self] if self.seeds is None else [self._at_seed(seed) for seed in self.seeds]

    def _at_seed(self, seed: int) -> Recipe:
        def seeded(stage: Any) -> Any:
            return stage and stage.model_copy(update={"seed": seed})

        by_share = {share: seeded(stage) for share, stage in self.finetune_by_share.items()}
        trainings = {"pretrain": seeded(self.pretrain), "finetune": seeded(self.finetune)}
        return self.model_copy(update={**trainings, "finetune_by_share": by_share, "seeds": (seed,)})

    @property
    def repeats(self) -> int:
        """How often it is trained and evaluated for each label share: folds x seeds."""
        return len(self.folds.selected) * len(self.by_seed)

    def is_cross_fitted(self, share: float) -> bool:
        """Whether folds choose one another's thresholds, at which calls are counted: there are several, no validation,
        and nobody said a threshold to count at (`evaluate.fit_events`, or `folds.refit`, whose model has the thresholds
        of the folds)."""
        stage = self.at_share(share).finetune
        chosen = self.evaluate.fit_events or self.folds.refit
        return stage is not None and stage.validation is None and chosen and len(self.folds.selected) > 1

    def for_refit(self) -> Recipe:
        """The recipe with the finetuning settings of `folds.refit`: no recording is left to validate on."""
        stage = self.at_share(self.folds.refit_share).finetune
        return self.model_copy(update={"finetune": stage and stage.model_copy(update={"validation": None})})
