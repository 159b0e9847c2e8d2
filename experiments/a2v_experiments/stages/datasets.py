"""What of which corpus a run is of, as MLflow's datasets: it shows them beside the run and can filter by them.

MLflow knows a dataset by its name and digest. All of a corpus has the beginning of its fingerprint as digest; a part of
it, such as what a fold trains on, has one of its own, and names the corpus in its profile.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
from a2v_data.corpus import Corpus
from a2v_data.folds import class_counts
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

DIGEST = 16  # characters, of which folders of corpora have as many


def dataset(corpus: Corpus, source: str, context: str, names: Collection[str] | None = None) -> DatasetInput:
    """Recordings of a corpus, by their names (None: all). source: what the recipe calls it; context: what the run does
    with them: `training`, `validation`, `evaluation`, or `corpus` where it packed them."""
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
        name=Path(source).name or source, digest=digest[:DIGEST], source_type="local",
        source=json.dumps({"uri": source}), profile=json.dumps(profile),
    )  # fmt: skip
    return DatasetInput(found, [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def datasets_of(corpus: Corpus, source: str, **names: Collection[str]) -> list[DatasetInput]:
    """One dataset for each context that has recordings."""
    return [dataset(corpus, source, context, chosen) for context, chosen in names.items() if chosen]
