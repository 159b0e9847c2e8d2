"""The section `folds` of a recipe: which recordings are trained on, and which are evaluated on."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from .sweep import Section

Share = Annotated[float, Field(gt=0, le=1)]
CROSS, PARTS = "cross", 3  # validation of all training recordings, in so many parts
USUAL_SHARE = 0.2  # of a shuffle split
EXPRESSION_SHARE = 0.2  # of the labelled recordings, that an expression is assumed to hold out


class FoldsConfig(Section):
    """Stratified folds: `count` are made, those listed in `run` (None: all) are finetuned and evaluated.

    group: regular expression with one group, found in every recording's name: recordings with the same group (an
    animal, a day, a site) never straddle train and evaluation; None: each recording is its own group.
    scheme: `partition`: each labelled recording is evaluated in one of the folds; `shuffle`: every fold is a split of
    its own, which evaluates on `evaluation_share` of them, as the paper's five of 80/20.
    holdout: instead of `count` folds a single one, fold 0, evaluated on recordings that are held out: a share of the
    groups (0.2), chosen so that class shares are alike, or a regular expression that is found in the names of the
    groups to hold out ('^(bird07|bird12)$'). No pretraining hears them, nor unlabelled recordings of their groups.
    manifests: a folder with the folds, as MeerKAT was published and `a2v data folds` writes them (train_0.tsv,
    valid_0.tsv, train_0_1.tsv, pretrain.tsv, ...): exactly these `count` folds, their subsets for `label_shares` and
    what pretraining hears. What is in train or valid counts as labelled. With `holdout`, whatever its value, its
    train_lof.tsv and valid_lof.tsv, or its only fold.
    validation: share of a fold's training recordings, in whole groups and with class shares alike, that are held out to
    choose on: weights, thresholds, and the best trial of a sweep; `finetune.validation` says how training uses them.
    They are never trained on, nor heard by a pretraining with `hears: train` (None: nothing is held out). `cross`,
    where recordings are too few to hold some out: the training recordings are parted in three, a model is trained on
    each two parts and validated on the third, and then the fold's model on all of them, for as many updates as were
    best in the middle one of the three, with the thresholds that are the best over all three parts.
    label_shares: shares of each train fold's labelled recordings that are used, one finetuning for each.
    refit: after the folds one more finetuning, with the settings of the largest label share, on all labelled
    recordings: the model for new recordings. It has neither evaluation nor validation; its scores are those of the
    folds, and its thresholds the best over the evaluation recordings of all folds, each scored by a model that never
    heard it. Not with a sweep, which compares.
    """

    count: int = Field(default=5, ge=2)
    run: list[int] | None = None
    seed: int = 0
    group: str | None = None
    # in no dump where they are as usual, so recipes without them keep the fingerprints that they had before
    scheme: Literal["partition", "shuffle"] = Field(default="partition", exclude_if=lambda one: one == "partition")
    evaluation_share: float = Field(default=USUAL_SHARE, gt=0, lt=1, exclude_if=lambda one: one == USUAL_SHARE)
    manifests: str | None = Field(default=None, exclude_if=lambda one: one is None)
    holdout: float | str | None = None
    validation: float | str | None = Field(default=None, exclude_if=lambda one: one is None)
    label_shares: list[Share] = Field(default=[1.0], min_length=1)
    refit: bool = Field(default=False, exclude_if=lambda wanted: not wanted)

    @field_validator("group")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None and _compiled(pattern).groups != 1:
            raise ValueError("must have exactly one group in parentheses, for example ^(bird[0-9]+)_")
        return pattern

    @field_validator("validation")
    @classmethod
    def _a_share(cls, held: float | str | None) -> float | str | None:
        if held is not None and held != CROSS and not (isinstance(held, float) and 0 < held < 1):
            raise ValueError(f"is {held!r}; must be a share above 0 and below 1, or {CROSS}")
        return held

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

    @model_validator(mode="after")
    def _one_source(self) -> FoldsConfig:
        if self.evaluation_share != USUAL_SHARE and self.scheme != "shuffle":
            raise ValueError(
                f"evaluation_share = {self.evaluation_share:g}: belongs to scheme: shuffle; a partition evaluates one"
                " of its count folds"
            )
        return self

    @property
    def evaluated_share(self) -> float:
        """Which share of the labelled recordings a fold evaluates, about; of a hold-out by an expression a fifth."""
        if self.holdout is not None:
            return self.holdout if isinstance(self.holdout, float) else EXPRESSION_SHARE
        return self.evaluation_share if self.scheme == "shuffle" and self.manifests is None else 1 / self.count

    @property
    def decides_pretraining(self) -> bool:
        """Whether a pretraining without finetuning depends on it."""
        return self.holdout is not None or self.manifests is not None

    @property
    def number(self) -> int:
        """How many folds there are."""
        return self.count if self.holdout is None else 1

    @property
    def selected(self) -> list[int]:
        return list(range(self.number)) if self.run is None else self.run

    @property
    def refit_share(self) -> float:
        """The label share whose settings and folds are those of the refit."""
        return max(self.label_shares)

    @property
    def trainings(self) -> int:
        """How many finetunings there are."""
        of_one = 1 + PARTS if self.validation == CROSS else 1
        return len(self.selected) * len(self.label_shares) * of_one + self.refit


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
