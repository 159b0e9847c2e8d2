"""A model card as people read it, Markdown, and what the Hugging Face Hub reads of it: YAML before it.

https://huggingface.co/docs/hub/model-cards, https://github.com/huggingface/hub-docs/blob/main/modelcard.md. What nobody
recorded is said to be so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from a2v_data.licences import UNKNOWN

LIBRARY = "a2v"
PAPER = "https://arxiv.org/abs/2406.01253"
LICENCES = """
apache-2.0 mit openrail bigscience-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause
bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0
cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0
eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++
osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
"""
# The Hub's identifiers (https://huggingface.co/docs/hub/repositories-licenses); others are `other` there, by name
CONTEXTS = {
    "training": "training",
    "validation": "validation: weights or thresholds were chosen on it",
    "evaluation": "evaluation: held out, its labels were never seen",
}
OF = {
    "evaluation": "the evaluation recordings, held out",
    "validation": "the validation recordings, on which weights or thresholds were chosen: somewhat too good",
    "training": "the recordings that it was trained on, as there were no others: much too good",
    "folds": "the evaluation recordings of {n} folds, held out there, with a model of each fold that was trained in the"
    " same way; this one was trained on all of them, so nothing is left to score it on",
}
PROTOCOLS = {"strict": "strict/", "paper": "", "presence": "presence/"}
"""Protocol -> what stands before the names of its metrics, in the order in which cards show them."""
COUNTED = ("F1", "precision", "recall")
SPLIT = {"evaluation": "evaluation", "folds": "evaluation, mean over folds"}  # of scores that the Hub is told


def card_text(description: Mapping[str, Any], name: str, use: Sequence[str]) -> str:
    """The card of a model. description: of its folder, with `card` (`facts.py`, and `licence`: the model's own) where
    something is known; name: what it is called where no run says it; use: lines about how to use it."""
    facts: Mapping[str, Any] = description.get("card") or {}
    title = _title(facts, name)
    parts = [
        f"# {title}",
        _summary(description, facts),
        "\n".join(["## Use", "", *use]),
        "\n".join(["## Data", "", *_data(facts)]),
        "\n".join(["## Scores", "", *_scores(description, facts)]),
        "\n".join(["## Model", "", *_model(description)]),
        "\n".join(["## How it was made", "", *_made(description, facts)]),
    ]
    return f"---\n{_front_matter(description, facts, title)}---\n\n" + "\n\n".join(parts) + "\n"


def _title(facts: Mapping[str, Any], name: str) -> str:
    if not facts.get("run_id"):
        return name
    stages = {"refit": "trained on all labels", "pretrain": "pretrained", "adapt": "adapted"}
    what = stages.get(facts["stage"]) or f"fold {facts.get('fold', '?')}"
    seed = f", seed {facts['seed']}" if "seed" in facts else ""
    share = f", {float(facts['label_share']):.0%} of the labels" if facts.get("label_share", "1") != "1" else ""
    return f"{facts['experiment']}, {what}{share}{seed}"


def _front_matter(description: Mapping[str, Any], facts: Mapping[str, Any], title: str) -> str:
    detector = description["kind"] == "detector"
    tags = ["bioacoustics", "animal2vec", "sound-event-detection"] if detector else ["bioacoustics", "animal2vec"]
    told: dict[str, Any] = {
        **_licence(facts.get("licence")),
        "library_name": LIBRARY,
        "pipeline_tag": "audio-classification" if detector else "feature-extraction",
        "tags": tags,
    }
    results = [one for score in facts.get("scores", []) if score["of"] in SPLIT for one in _results(score, facts)]
    if results:
        told |= {"metrics": ["average_precision", "f1"], "model-index": [{"name": title, "results": results}]}
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=1000)


def _licence(licence: str | None) -> dict[str, str]:
    if licence is None:
        return {"license": "unknown"}
    known = licence.lower()
    return {"license": known} if known in LICENCES.split() else {"license": "other", "license_name": _slug(licence)}


def _results(score: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry of the Hub's model index; none where no score is one that it can show."""
    metrics = [
        {"type": kind, "value": round(value, 4), "name": f"{short} micro, {protocol}"}
        for protocol, prefix in PROTOCOLS.items()
        for short, kind in (("AP", "average_precision"), ("mAP", "average_precision"), ("F1", "f1"))
        if (value := score["metrics"].get(f"{prefix}{short}/micro")) is not None
    ]
    corpus = _corpus(facts) or "recordings"
    task = {"type": "audio-classification", "name": "Sound event detection"}
    dataset = {"type": _slug(corpus), "name": corpus, "split": SPLIT[score["of"]]}
    return [{"task": task, "dataset": dataset, "metrics": metrics}] if metrics else []


def _corpus(facts: Mapping[str, Any]) -> str | None:
    return next((str(one["corpus"]) for one in facts.get("data", {}).values()), None)


def _summary(description: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    classes = description["classes"]
    corpus = _corpus(facts)
    on = f" in {corpus}" if corpus else ""
    if not classes:
        return (
            f"Pretrained on raw audio without labels{on}, by the method of [animal2vec]({PAPER}); it knows no classes"
            " until it is finetuned."
        )
    return (
        f"Finds the calls of {len(classes)} class{'es' if len(classes) > 1 else ''}"
        f" ({', '.join(map(_plain, classes))}) in raw audio, frame by frame, by the method of [animal2vec]({PAPER})."
    )


def _data(facts: Mapping[str, Any]) -> list[str]:
    data: Mapping[str, Any] = facts.get("data") or {}
    lines = _data_table(data, facts.get("stage") != "pretrain") if data else [f"What it was trained on: {UNKNOWN}."]
    start = facts.get("start")
    if start is not None:
        lines += ["", *_start(start)]
    elif facts.get("stage") not in (None, "pretrain"):
        lines += ["", "Pretrained on: nothing; training started from random weights."]
    elif not data:
        lines += ["", f"Pretrained on: {UNKNOWN}."]
    return lines


def _data_table(data: Mapping[str, Any], labels: bool) -> list[str]:
    """labels: whether training read any."""
    classes = list(dict.fromkeys(name for one in data.values() for name in one.get("labels_by_class", {}) if labels))
    contexts = sorted(data, key=lambda context: [*CONTEXTS, context].index(context))
    rows = []
    for context in contexts:
        for one in _each(data[context]):
            counts = [str(one["recordings"]), f"{one['hours']:g}", str(one["labels"]) if labels else "not read"]
            rows.append([CONTEXTS.get(context, context), _heard(one), *counts])
    lines = _table(["recordings for", "corpus", "recordings", "hours", "labelled calls"], rows)
    licences = dict.fromkeys((one["corpus"], one.get("licence")) for many in data.values() for one in _each(many))
    lines.append("")
    lines += [f"Licence of the recordings ({_plain(corpus)}): {licence or UNKNOWN}." for corpus, licence in licences]
    if classes:
        counted = [[name, *(str(data[one]["labels_by_class"].get(name, 0)) for one in contexts)] for name in classes]
        lines += ["", *_table(["labelled calls of", *contexts], counted)]
    return lines


def _each(data: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Of several corpora each."""
    found: Sequence[Mapping[str, Any]] = data.get("corpora") or [data]
    return found


def _heard(one: Mapping[str, Any]) -> str:
    """A corpus, and how much of what was heard it is."""
    return f"{one['corpus']} ({one['share']:.1%} of what was heard)" if "share" in one else str(one["corpus"])


def _start(start: Mapping[str, Any]) -> list[str]:
    data = (start.get("data") or {}).get("training")
    kinds = {"pretraining": "Pretrained", "backbone": "Pretrained", "model": "It goes on from a detector trained"}
    on = UNKNOWN
    if data is not None:
        on = "; and ".join(
            f"{_plain(_heard(one))}, {one['recordings']} recordings, {one['hours']:g} hours; licence:"
            f" {one.get('licence') or UNKNOWN}"
            for one in _each(data)
        )
    return [f"{kinds[start['kind']]} on: {on} (`{start['source']}`)."]


def _scores(description: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    scores: Sequence[Mapping[str, Any]] = facts.get("scores") or []
    if not description["classes"]:
        return ["None: it has no classes."]
    if not scores:
        return [f"Scores: {UNKNOWN}.", "", *_thresholds(description)]
    lines = []
    for score in scores:
        lines += [f"On {OF[score['of']].format(n=score.get('n'))}:", "", *_score_table(score), ""]
        if score["counted_at"]:
            own = ", those of each fold's model" if score["of"] == "folds" else ""
            lines += [f"F1, precision and recall: at {score['counted_at']}{own}.", ""]
    if facts.get("heard"):
        lines += [f"Beforehand: {facts['heard']}.", ""]
    lines += [
        "strict: a prediction counts once, for one label that it overlaps enough; mAP is its AP, mean over the IoU 0.1"
        " to 0.9. paper: as animal2vec's article counts.",
        "",
        *_class_table(description, scores[0], facts),
        "",
        *_thresholds(description),
    ]
    return lines


def _score_table(score: Mapping[str, Any]) -> list[str]:
    columns = ["AP", "mAP", *(COUNTED if score["counted_at"] else ())]
    rows = []
    for protocol, prefix in PROTOCOLS.items():
        if any(f"{prefix}{one}/micro" in score["metrics"] for one in columns):
            rows.append([protocol, *(_value(score, f"{prefix}{one}/micro") for one in columns)])
    return _table(["protocol", *(f"{one} micro" for one in columns)], rows)


def _class_table(description: Mapping[str, Any], score: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """By class, of the first scores. Where recordings are labelled as a whole only, what presence says."""
    of = [prefix for prefix in PROTOCOLS.values() if any(key.startswith(f"{prefix}AP/") for key in score["metrics"])]
    if not of:
        return []
    named = {prefix: protocol for protocol, prefix in PROTOCOLS.items()}
    first = of[0]
    header = ["class", "the model's threshold", f"F1 {named[first]}", *(f"AP {named[prefix]}" for prefix in of)]
    rows = []
    for name in description["classes"]:
        threshold = description.get("thresholds", {}).get(name)
        cells = [_value(score, f"{first}F1/{name}"), *(_value(score, f"{prefix}AP/{name}") for prefix in of)]
        rows.append([name, "–" if threshold is None else f"{threshold:g}", *cells])
    return _table(header, rows)


def _value(score: Mapping[str, Any], name: str) -> str:
    value, std = score["metrics"].get(name), score.get("std", {}).get(name)
    if value is None:
        return "–"
    return f"{value:.3f}" if std is None else f"{value:.3f} ± {std:.3f}"


def _thresholds(description: Mapping[str, Any]) -> list[str]:
    thresholds, told = description.get("thresholds") or {}, description.get("thresholds_from") or {}
    if not thresholds:
        return ["The model has no thresholds of its own: none were chosen."]
    if "review" in told:
        return ["The model's thresholds are those of a review of its predictions; F1 above is not at these."]
    return [f"The model's thresholds were chosen on {told.get('recordings') or f'recordings that are {UNKNOWN}'}."]


def _model(description: Mapping[str, Any]) -> list[str]:
    encoder = description["model"]["encoder"]
    rows = [
        ["classes", ", ".join(description["classes"]) or "none"],
        ["sample rate", f"{description['sample_rate']} Hz{_or_any(description)}, one channel"],
        ["frames", f"{description['frame_rate']:g} a second"],
        ["parameters", f"{description['parameters']['model']:,}"],
        ["encoder", f"{encoder.get('kind', 'transformer')}, embedding of {encoder['dim']}"],
    ]
    if description.get("plugins"):
        rows.append(["code of its own", ", ".join(f"plugins/{name}" for name in description["plugins"])])
    return _table(["", ""], rows)


def _or_any(description: Mapping[str, Any]) -> str:
    any_rate = description["model"]["front_end"].get("any_rate", False)
    return ", and any other as it is" if any_rate else ""


def _made(description: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    extra: Mapping[str, Any] = description.get("extra") or {}
    licence = facts.get("licence") or UNKNOWN
    lines = [f"Licence of this model: {licence}.", ""]
    imported = extra.get("imported")
    if isinstance(imported, dict) and not facts.get("run_id"):
        origin = f"`{imported['file']}` of the original animal2vec, sha256 {imported['sha256']}"
        return [*lines, f"Imported from {origin}, with `a2v model import`."]
    if not facts.get("run_id"):
        return [*lines, f"How it was made: {UNKNOWN}."]
    updates = extra.get("updates")
    commit = facts.get("commit") or UNKNOWN
    commit += " with uncommitted changes" if facts.get("uncommitted") else ""
    rows = [
        ["a2v", facts.get("version") or UNKNOWN],
        ["commit", commit],
        ["run", facts["run_id"]],
        ["updates", UNKNOWN if updates is None else f"{updates:,}"],
    ]
    again = [f"To make it again, where the run and the recordings are: `{facts['repeat'] or UNKNOWN}`"]
    return [*lines, *_table(["", ""], rows), "", *again]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(header), ["---"] * len(header), *rows]
    return ["| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines]


def _plain(text: object) -> str:
    """One line, in which nothing ends a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.+-]+", "-", text.lower()).strip("-") or "recordings"
