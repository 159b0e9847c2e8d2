"""`pretrain_data` of several corpora: NAME: {source: ..., weight: ...}, beside the form of one corpus, {source: ...}.

Each is drawn in proportion to weight x hours ** (1 / temperature), as multilingual models draw languages (XLSR,
arXiv 2006.13979; mT5, arXiv 2010.11934): small corpora more often than their hours say, and large ones less.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sections import DataConfig

Tree = dict[str, Any]
KEY = "pretrain_data"
ALIKE = ("sample_rate", "segment_s", "keep_rates")  # of all corpora that one model hears
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # a dot would part it in --set


def are_several(given: Any, fields: Set[str]) -> bool:
    """Whether `pretrain_data` names corpora. fields: the keys of one."""
    return isinstance(given, Mapping) and bool(given) and not fields & given.keys()


def with_corpora(tree: Tree, fields: Set[str]) -> Tree:
    """A recipe's keys; each of several corpora with the sample rate, segments and rates of `data` where it says none of
    its own, without those that are null. Where nothing is finetuned and `data` names no source it is the first of them.

    fields: the keys of one corpus. Raises ValueError for what is neither one corpus nor several.
    """
    given, data = tree.get(KEY), tree.get("data")
    if isinstance(given, list | tuple):
        raise ValueError(f"{KEY}: several corpora have names: {KEY}: {{birds: {{source: FOLDER}}, seals: ...}}")
    if not are_several(given, fields):
        if isinstance(given, Mapping) and (named := [key for key in given.keys() - fields if _is_corpus(given[key])]):
            own = next(key for key in given if key in fields)
            raise ValueError(
                f"{KEY}: {own} is a key of one corpus, and {named[0]} names one of several; give one or the other"
                f" ({KEY}: {{NAME: {{source: FOLDER}}}})"
            )
        return tree
    assert isinstance(given, Mapping)
    if wrong := [name for name in given if not NAME.fullmatch(str(name))]:
        raise ValueError(f"{KEY}: {wrong[0]!r}: a corpus's name has letters, digits, - and _ only")
    alike = {key: data[key] for key in ALIKE if key in data} if isinstance(data, Mapping) else {}
    corpora = {
        str(name): {**alike, **one} if isinstance(one, Mapping) else one
        for name, one in given.items()
        if one is not None
    }
    if not corpora:
        raise ValueError(f"{KEY}: all of its corpora are null: name one, or say {KEY}: null")
    found = {**tree, KEY: corpora}
    first = next(iter(corpora.values()))
    only_pretrains = tree.get("finetune") is None and isinstance(first, Mapping)
    if only_pretrains and isinstance(data, Mapping | None) and "source" not in (data or {}):
        found["data"] = {key: value for key, value in first.items() if key != "weight"}
    return found


def _is_corpus(value: Any) -> bool:
    return isinstance(value, Mapping) and "source" in value


def check_corpora(corpora: Mapping[str, DataConfig]) -> None:
    """Raises ValueError where corpora are the same, or cut differently. corpora: by their names."""
    first_name, first = next(iter(corpora.items()))
    places: dict[Any, str] = {}
    for name, data in corpora.items():
        if data.segment_s != first.segment_s:
            raise ValueError(
                f"{KEY}.{name}.segment_s = {data.segment_s:g}: must be that of {first_name}, {first.segment_s:g}: one"
                " model hears segments of one length"
            )
        same = places.setdefault(_place(data), name)
        if same != name:
            raise ValueError(f"{KEY}.{name}.source: {data.source}: is that of {same} too; leave one of the two out")


def _place(data: DataConfig) -> Any:
    return data.synthetic if data.source == "synthetic" else os.path.realpath(data.source)


def shares(hours: Sequence[float], weights: Sequence[float], temperature: float) -> list[float]:
    """How much of what is heard each corpus is, 1 together: weight x hours ** (1 / temperature) over their sum."""
    times = [weight * own ** (1 / temperature) for own, weight in zip(hours, weights, strict=True)]
    return [one / sum(times) for one in times]
