"""What of which corpus a run is of, as MLflow's datasets: it shows them beside the run and can filter by them.

MLflow knows a dataset by its name and digest. All of a corpus has the beginning of its fingerprint as digest; a part of
it, such as what a fold trains on, has one of its own, and names the corpus in its profile.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from a2v_data.corpus import Corpus
from a2v_data.folds import class_counts
from a2v_data.licences import recorded_licences
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from ..recipe.sections import DataConfig
from ..store.tags import LICENCE, SHARE
from .mixture import Mixture

DIGEST = 16  # characters, of which folders of corpora have as many
TAG_LENGTH = 500  # characters that MLflow keeps of a tag of an input


def licence_of(data: DataConfig, folder: Path) -> str | None:
    """Of the recordings of a corpus: as the recipe says, else as a table in their folder does; None if not known."""
    return data.licence or recorded_licences(folder)


def dataset(
    corpus: Corpus,
    source: str,
    context: str,
    names: Collection[str] | None = None,
    name: str = "",
    tags: Mapping[str, str] = MappingProxyType({}),
) -> DatasetInput:
    """Recordings of a corpus, by their names (None: all). source: what the recipe calls it; context: what the run does
    with them: `training`, `validation`, `evaluation`, or `corpus` where it packed them; name: the dataset's (else that
    of the source's folder); tags: what else is to be said of it as an input of this run."""
    every = [one.name for one in corpus.recordings]
    chosen = every if names is None else [name for name in every if name in set(names)]
    mark = corpus.folder.name
    digest = mark if len(chosen) == len(every) else hashlib.sha256("\0".join([mark, *chosen]).encode()).hexdigest()
    places = corpus.indices(chosen)
    seconds = corpus.seconds(places)
    labels = class_counts(corpus)[np.array(places, dtype=int)].sum(0)
    profile = {
        "corpus": mark, "recordings": len(chosen), "hours": round(seconds / 3600, 3), "labels": int(labels.sum()),
        "labels_by_class": {name: int(count) for name, count in zip(corpus.classes, labels, strict=True)},
    }  # fmt: skip
    found = Dataset(
        name=name or Path(source).name or source, digest=digest[:DIGEST], source_type="local",
        source=json.dumps({"uri": source}), profile=json.dumps(profile),
    )  # fmt: skip
    return DatasetInput(
        found, [InputTag(key, value) for key, value in {MLFLOW_DATASET_CONTEXT: context, **tags}.items()]
    )


def datasets_of(corpus: Corpus, source: str, **names: Collection[str]) -> list[DatasetInput]:
    """One dataset for each context that has recordings."""
    return [dataset(corpus, source, context, chosen) for context, chosen in names.items() if chosen]


def datasets_heard(heard: Mixture) -> list[DatasetInput]:
    """What a pretraining hears; of several corpora each, with its share, and with its licence as far as it is known."""
    if len(heard.parts) == 1:
        (one,) = heard.parts
        return datasets_of(one.corpus, one.data.source, training=one.names)
    found = []
    for one in heard.parts:
        licence = licence_of(one.data, Path(one.data.source))
        tags = {SHARE: f"{one.share:.4f}", **({LICENCE: licence[:TAG_LENGTH]} if licence else {})}
        found.append(dataset(one.corpus, one.data.source, "training", one.names, one.name, tags))
    return found
