"""What a worker needs to train, as plain data."""

from __future__ import annotations

from typing import Any, TypeVar

from a2v_eval.evaluation import EvaluationConfig
from a2v_model.config import ModelConfig
from a2v_model.plugins import Plugin, use
from pydantic import BaseModel, ConfigDict, model_validator

from ..recipe.trainings import FinetuneStage, LoopConfig, PretrainStage
from .probe_recordings import ProbeSpec

Part = TypeVar("Part", bound=BaseModel)


class HeardCorpus(BaseModel):
    """One of several corpora that a training hears. corpus: folder of the packed store; recordings: names of those to
    train on; share: of the micro-batches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str
    recordings: list[str]
    share: float


class TrainingSpec(BaseModel):
    """All that a worker needs to train: plain data, so it travels to any node.

    corpus: folder of the packed store; recordings: names of those to train on; corpora: where it hears several, all of
    them, of which these two are the first; backbone: folder of the pretrained
    model, or None to start from random weights; keep_head: it is a detector with the same kind of head, which
    finetuning starts from too, as far as it has the same classes. validation: names of recordings, others than those
    to train on, to score as `scoring` says, with windows of segment_s seconds that share overlap_s seconds; none for no
    validation.
    probe: what a pretraining is probed with; None for no probe. ends: the update after which training ends, of those
    that its schedule is for (None: after the last). plugins: the source of those that it needs, which are loaded with
    it, wherever that is; allow_plugins: whether the user agreed to what `backbone` brings.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    plugins: tuple[Plugin, ...] = ()
    allow_plugins: bool = False
    corpus: str
    recordings: list[str]
    corpora: tuple[HeardCorpus, ...] = ()
    segment_s: float
    model: ModelConfig
    pretrain: PretrainStage | None = None
    finetune: FinetuneStage | None = None
    classes: list[str] = []
    backbone: str | None = None
    keep_head: bool = False
    validation: list[str] = []
    overlap_s: float = 0.5
    scoring: EvaluationConfig = EvaluationConfig()
    probe: ProbeSpec | None = None
    ends: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _load_plugins(cls, given: Any) -> Any:
        """Before the rest is read, which is in their words."""
        if isinstance(given, dict):
            use(Plugin.model_validate(plugin) for plugin in given.get("plugins", ()))
        return given

    @model_validator(mode="after")
    def _held_out(self) -> TrainingSpec:
        if both := sorted(set(self.recordings) & set(self.validation)):
            raise ValueError(f"validation: {both[0]} is trained on too; a recording must be in one of the two")
        if self.validation and self.finetune is None:
            raise ValueError("validation: a pretraining has no scores, so it must have no validation recordings")
        return self

    @property
    def looks(self) -> bool:
        """Whether rank 0 takes time now and then for what the other workers wait for."""
        return bool(self.validation) or self.probe is not None

    @property
    def end(self) -> int:
        """The update after which training ends."""
        return self.ends or self.loop.updates

    @property
    def loop(self) -> LoopConfig:
        stage = self.pretrain or self.finetune
        assert stage is not None
        return stage


def part(config: BaseModel, kind: type[Part]) -> Part:
    """The fields of `config` that make up one of its bases, as that base."""
    return kind.model_validate(config.model_dump(include=set(kind.model_fields)))
