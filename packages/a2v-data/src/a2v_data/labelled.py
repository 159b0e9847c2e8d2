"""Which recordings count as labelled, by which rule, and what is said about it.

What is not labelled serves pretraining alone: nobody knows whether something calls in it, so it is neither trained on
as silence nor scored. How a folder says that somebody listened depends on its layout. In one's own tables it is a row,
if only one with a file and no call. In MeerKAT as it was published every segment has a label file, also the 318 194 of
384 592 that nobody labelled: there only events tell. Folders that `a2v data prepare` or `a2v data synth` wrote have
MeerKAT's layout too, but label files for the labelled alone, so that in them an empty one says that nothing called.
"""

from collections.abc import Set
from pathlib import Path
from typing import Any, Literal

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import Annotations
from a2v_data.meerkat import PREPARED_META, SYNTHETIC_META
from a2v_data.sources import has_meerkats_layout

LabelledRule = Literal["annotated", "with_events", "all"]
LabelledSetting = Literal["auto", "annotated", "with_events", "all"]
TOLD = {"annotated": "those with an annotation", "with_events": "those with events", "all": "all of them"}


def labelled_rule(wanted: LabelledSetting, folder: Path, annotations: AnnotationConfig) -> LabelledRule:
    """The rule that a setting means for a folder of recordings; only what lies directly in the folder is looked at.

    annotated: labelled is what a row or a label file names. with_events: what has at least one event, whatever its
    label: one that `exclude_labels` or a mapping drops counts too, since somebody listened. all: everything. auto:
    with_events in MeerKAT's layout as it was published, annotated in tables and in folders that we wrote.
    """
    if wanted != "auto":
        return wanted
    published = has_meerkats_layout(folder, annotations) and not says_who_listened(folder)
    return "with_events" if published else "annotated"


def says_who_listened(folder: Path) -> bool:
    """Whether we wrote the folder (`a2v data prepare`, `a2v data synth`), with label files for the labelled alone."""
    return any((folder / name).is_file() for name in (PREPARED_META, SYNTHETIC_META))


def labelled_names(rule: LabelledRule, names: Set[str], annotations: Annotations) -> frozenset[str]:
    """Those of the recordings `names` that are labelled by the rule."""
    if rule == "all":
        return frozenset(names)
    return frozenset(names & (annotations.annotated if rule == "annotated" else annotations.with_events))


def labelled_notice(rule: LabelledRule, segments: int, files: int, empty: int) -> str | None:
    """What is said where a folder in MeerKAT's layout looks as if the other rule were meant, else None.

    files: how many of its `segments` have a label file; empty: how many of these files hold no event.
    """
    if rule == "annotated" and 2 * empty > files:
        return (
            f"{number(empty)} of {number(files)} label files hold no event: if nobody listened to those segments, say "
            "labelled: with_events"
        )
    if rule == "with_events" and empty and files < segments:
        return (
            f"{number(files)} of {number(segments)} segments have a label file, and {number(empty)} of these files hold"
            " no event: if somebody listened to these, say labelled: annotated"
        )
    return None


def rule_of(meta: dict[str, Any]) -> LabelledRule | None:
    """The rule by which recordings of a listing (`Listing.meta`) are labelled; None where it does not say."""
    rule = meta.get("config", {}).get("labelled")
    return rule if rule in TOLD else None


def labelled_line(labelled: int, total: int, rule: LabelledRule | None, meerkat: bool, unit: str = "recordings") -> str:
    """How many are labelled, and by which rule. meerkat: annotations are label files."""
    line = f"{number(labelled)} of {number(total)} {unit} labelled"
    if rule is None:
        return line
    told = "those with a label file" if meerkat and rule == "annotated" else TOLD[rule]
    return f"{line}: {told} (labelled: {rule})"


def weak_line(count: int) -> str:
    """How many more are labelled as a whole only."""
    return f"{number(count)} more as a whole, by recording-level labels (weak)"


def number(count: int) -> str:
    """With spaces between thousands: 384 592."""
    return f"{count:,}".replace(",", " ")
