"""Several corpora in one pretraining: what a recipe says, how often each is heard, and what is told of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from a2v_data.corpus import Corpus
from a2v_data.folds import Fold, Folds
from a2v_data.pack import PackConfig, pack
from a2v_experiments.basics.errors import UserError
from a2v_experiments.cluster.submission import for_cluster
from a2v_experiments.cluster.submission import sources as sources_of
from a2v_experiments.recipe.corpora import shares
from a2v_experiments.recipe.files import load_recipe, read_recipe
from a2v_experiments.recipe.sections import Recipe
from a2v_experiments.stages.heard import heard_by
from a2v_experiments.stages.mixture import Mixture, Part, mixture_of, told
from a2v_experiments.stages.specs import data_spec, experiment_spec, pretrain_spec
from a2v_experiments.sweep.placing import needed
from a2v_experiments.training import checkpoints
from a2v_experiments.training.spec import HeardCorpus, TrainingSpec
from a2v_experiments.training.tasks import PretrainTask, build_task
from experiments_runs import World
from experiments_training import run_loop
from experiments_world import RATE, RECIPE, call_quietly, waveform, write_recipe

FAST = 2 * RATE
FRONT_END = {"kind": "ear", "sample_rate": FAST, "any_rate": True, "filters": 32, "stem": [4, 6]}
SECONDS = {"low": 16.0, "high": 4.0, "noise": 1.0}  # square roots: 4, 2, 1
NAMES = {"low": 8, "high": 2, "noise": 1}
NO_LABELS = "file,onset_s,offset_s,label\n"
HEARD = {"low": 2, "high": 1, "noise": 4}  # weights; times square roots: 8, 2, 4


def make_source(folder: Path, name: str) -> Path:
    """`low` and `noise` at 4 kHz, `high` at 8, recordings of 2, 2 and 1 s. high's second one is low's first."""
    (folder / "audio").mkdir(parents=True)
    for number in range(NAMES[name]):
        rate = FAST if name == "high" else RATE
        seed = {"low": number, "high": 20 + number, "noise": 30}[name]
        sound_N = np.resize(waveform(seed), round(SECONDS[name] / NAMES[name] * rate))
        soundfile.write(folder / "audio" / f"rec{number:02d}.wav", sound_N, rate, subtype="PCM_16")
    (folder / "annotations.csv").write_text(NO_LABELS)
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("several")
    made = {name: make_source(folder / name, name) for name in SECONDS}
    (made["high"] / "recordings.csv").write_text("file,lic\nrec00.wav,cc0\nrec01.wav,cc0\n")
    return made


@pytest.fixture(scope="module")
def packed(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    folder = tmp_path_factory.mktemp("packed")
    config = PackConfig(sample_rate=FAST, keep_rates=100, labelled="all", focal_class=False)
    return {f"pretrain_data.{name}": pack(source, folder / name, config) for name, source in sources.items()}


def tree(sources: dict[str, Path] | None = None, **more: Any) -> dict[str, Any]:
    """Pretraining only, on the three corpora."""
    made = yaml.safe_load(yaml.safe_dump(RECIPE)) | {"finetune": None}
    made["data"] = {"sample_rate": FAST, "segment_s": 1.0, "keep_rates": 100, "labelled": "all", "focal_class": False}
    own = {"labelled": "all", "focal_class": False}
    made["pretrain_data"] = {
        name: {"source": str((sources or {}).get(name, name)), "weight": HEARD[name], **own} for name in SECONDS
    }
    made["model"]["front_end"] = dict(FRONT_END)
    return made | more


def recipe_of(folder: Path, sources: dict[str, Path] | None = None, *sets: str, **more: Any) -> Recipe:
    return load_recipe(str(write_recipe(folder / "several.yaml", tree(sources, **more))), list(sets))


def spec_of(recipe: Recipe, mixture: Mixture) -> TrainingSpec:
    corpora = [HeardCorpus(corpus=one.folder, recordings=one.names, share=one.share) for one in mixture.parts]
    return TrainingSpec(
        corpus=corpora[0].corpus, recordings=corpora[0].recordings, corpora=tuple(corpora), segment_s=1.0,
        model=recipe.model, pretrain=recipe.pretrain,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "temperature", "expected"),
    [
        ((1, 1, 1), 2.0, (4 / 7, 2 / 7, 1 / 7)),
        ((1, 1, 1), 1.0, (16 / 21, 4 / 21, 1 / 21)),
        ((2, 1, 4), 2.0, (8 / 14, 2 / 14, 4 / 14)),
        ((1, 1, 1), 4.0, (2 / (3 + 2**0.5), 2**0.5 / (3 + 2**0.5), 1 / (3 + 2**0.5))),
    ],
)
def test_shares_are_weight_times_a_root_of_the_hours(weights, temperature, expected) -> None:
    assert shares(list(SECONDS.values()), weights, temperature) == pytest.approx(expected)
    assert shares([1e4 * own for own in SECONDS.values()], weights, temperature) == pytest.approx(expected)


def test_corpora_have_what_data_says_of_all_and_come_and_go_by_their_names(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, None, "pretrain_data.noise=null", "pretrain_data.more.source=more")
    assert list(recipe.corpora) == [f"pretrain_data.{name}" for name in ("low", "high", "more")]
    alike = {(data.sample_rate, data.segment_s, data.keep_rates) for data in recipe.corpora.values()}
    assert alike == {(FAST, 1.0, 100.0)} and recipe.data.source == "low" and recipe.data_key == "pretrain_data.low"
    child = {"extends": "several", "name": "child", "pretrain_data": {"high": {"weight": 9}}}
    child_recipe = load_recipe(str(write_recipe(tmp_path / "child.yaml", child)))
    assert [data.weight for data in child_recipe.corpora.values()] == [2, 9, 4]
    again = Recipe.model_validate(recipe.model_dump(mode="json"))
    assert again == recipe


def test_one_corpus_is_what_it_was(tmp_path: Path, packed: dict[str, Corpus]) -> None:
    """Under a name or not, it has the same stages; weight and licence are none of a packed corpus."""
    one = {"source": "low", "sample_rate": FAST, "segment_s": 1.0, "keep_rates": 100, "labelled": "all"}
    plain = recipe_of(tmp_path, None, data=one, pretrain_data=one)
    named = recipe_of(tmp_path, None, data=one, pretrain_data={"low": one | {"weight": 3, "licence": "cc0"}})
    low = packed["pretrain_data.low"]
    marks = {heard_by(plain, low).fingerprint}
    marks |= {mixture_of(plain, {"data": low, "pretrain_data": low}).fingerprint}
    marks |= {mixture_of(named, {"pretrain_data.low": low}).fingerprint}
    assert len(marks) == 1
    assert pretrain_spec(plain, "audio").fingerprint == pretrain_spec(named, "audio").fingerprint
    known = recipe_of(tmp_path, None, data=one, pretrain_data={"low": one | {"weight": 3}})
    assert experiment_spec(known, ["x"]).fingerprint == experiment_spec(named, ["x"]).fingerprint
    (heavy,) = named.heard_corpora.values()
    assert data_spec(heavy, "x").fingerprint == data_spec(plain.data, "x").fingerprint
    spec = spec_of(plain, mixture_of(plain, {"data": low, "pretrain_data": low})).model_copy(update={"corpora": ()})
    front_end = FRONT_END | {"sample_rate": RATE}
    slow = plain.model.model_copy(update={"front_end": type(plain.model.front_end).model_validate(front_end)})
    assert type(build_task(spec.model_copy(update={"model": slow}), torch.device("cpu"))) is PretrainTask


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"weight": 0}, "pretrain_data.high.weight = 0: input should be greater than 0"),
    ({"weight": -1}, "pretrain_data.high.weight = -1: input should be greater than 0"),
    ({"source": "./low"}, "pretrain_data.high.source: ./low: is that of low too; leave one of the two out"),
    ({"segment_s": 2.0}, "pretrain_data.high.segment_s = 2: must be that of low, 1: one model hears segments of one"),
    ({"sample_rate": RATE}, "(8000 Hz) and pretrain_data.high.sample_rate (4000 Hz) must be equal"),
    (
        {"keep_rates": None},
        "pretrain_data.high.keep_rates: must be the frames a second of a model that hears any rate, 100",
    ),
    ({"wieght": 2}, "pretrain_data.high.wieght: unknown key; did you mean 'weight'?"),
]


@pytest.mark.parametrize(("change", "line"), MISTAKES)
def test_a_mistake_in_one_corpus_is_one_line(tmp_path: Path, change: dict[str, Any], line: str) -> None:
    made = tree()
    made["pretrain_data"]["high"] |= change
    with pytest.raises(UserError) as caught:
        load_recipe(str(write_recipe(tmp_path / "several.yaml", made)))
    assert line in str(caught.value) and str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("pretrain_data=[{source: x}]", "pretrain_data: several corpora have names: pretrain_data: {birds: {source:"),
        ("pretrain_data.source=x", "pretrain_data: source is a key of one corpus, and "),
        ("pretrain_data={a b: {source: x}}", "pretrain_data: 'a b': a corpus's name has letters, digits, - and _ only"),
        ("pretrain_data={low: null}", "pretrain_data: all of its corpora are null"),
        (
            "pretrain_data={source: x, sample_rate: 8000, segment_s: 1, keep_rates: 100, weight: 2}",
            "pretrain_data.weight: is one of several corpora's",
        ),
        ("pretrain.temperature=0.5", "pretrain.temperature = 0.5: input should be greater than or equal to 1"),
        ("data.weight=2", "data.weight: is one of several corpora's (pretrain_data.NAME.weight); leave it out"),
    ],
)
def test_a_mistake_in_their_form_is_one_line(tmp_path: Path, change: str, line: str) -> None:
    data = tree()["data"] | {"source": "low"}
    with pytest.raises(UserError) as caught:
        recipe_of(tmp_path, None, change, data=data)
    assert line in str(caught.value) and str(caught.value).count("\n") == 0


def test_a_temperature_is_of_several_corpora(tmp_path: Path) -> None:
    data = tree()["data"] | {"source": "low"}
    with pytest.raises(UserError, match=r"pretrain\.temperature: is of several corpora"):
        recipe_of(tmp_path, None, "pretrain.temperature=3", data=data, pretrain_data=None)


def test_two_corpora_of_one_name_are_told(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("name: twice\npretrain_data:\n  birds: {source: a}\n  birds: {source: b}\n")
    with pytest.raises(UserError, match=r"twice.yaml: not readable as YAML: 'birds' stands there twice .*line 4"):
        load_recipe(str(path))


def test_a_corpus_without_a_recording_that_is_long_enough_is_told(tmp_path: Path, packed: dict[str, Corpus]) -> None:
    recipe = recipe_of(tmp_path, None, "data.segment_s=1.5")
    with pytest.raises(UserError, match=r"^pretrain_data.noise.segment_s = 1.5: no recording is that long"):
        mixture_of(recipe, packed)


def test_what_is_evaluated_is_heard_in_no_corpus(tmp_path: Path, packed: dict[str, Corpus]) -> None:
    """The labelled recordings are those of low: held out, they are not heard there, and the others are."""
    finetune = RECIPE["finetune"]
    data = tree()["data"] | {"source": "labelled"}
    recipe = recipe_of(tmp_path, None, "folds.holdout='rec0[01]'", "folds.run=null", data=data, finetune=finetune)
    low = packed["pretrain_data.low"]
    names = [one.name for one in low.recordings]
    folds = Folds((Fold(0, names[2:], names[:2]),))
    corpora = {"data": low} | packed
    mixture = mixture_of(recipe, corpora, folds)
    assert [len(part.names) for part in mixture.parts] == [6, 2, 1]
    assert mixture.notices == ("low: not heard in pretraining: 2 recordings, evaluated or of the group of one",)
    times = np.array([2 * 12**0.5, 1 * 2, 4 * 1])  # low has 12 s left
    assert [part.share for part in mixture.parts] == pytest.approx(times / times.sum())
    assert "no pretraining heard any of the 2 recordings that are held out" in (told(recipe, corpora, folds) or "")
    share = [f"{one:.1%}" for one in times / times.sum()]
    hours = (f"low {share[0]} (0.00333 h)", f"high {share[1]} (0.00111 h)", f"noise {share[2]} (0.000278 h)")
    assert mixture.told() == [f"it hears {', '.join(hours)}"]
    assert len(mixture.heard_json()["recordings"]) == 9 and "high/rec00.wav" in mixture.heard_json()["recordings"]


def test_the_audio_of_a_pretraining_is_all_that_decides_what_is_heard(
    tmp_path: Path, packed: dict[str, Corpus]
) -> None:
    def mark(*sets: str) -> str:
        recipe = recipe_of(tmp_path, None, *sets)
        return pretrain_spec(recipe, mixture_of(recipe, packed).fingerprint).fingerprint

    first = mark()
    assert mark("pretrain_data.low.licence=cc0") == first == mark("pretrain.temperature=2")
    assert len({first, mark("pretrain_data.low.weight=3"), mark("pretrain.temperature=1")}) == 3


def test_each_corpus_is_heard_as_often_as_its_share_says(tmp_path: Path, packed: dict[str, Corpus]) -> None:
    """Of every 1 024 micro-batches 8 of 14, 2 of 14 and 4 of 14, each of one corpus at its rate."""
    recipe = recipe_of(tmp_path, None, "pretrain.micro_batches=4")
    task = build_task(spec_of(recipe, mixture_of(recipe, packed)), torch.device("cpu"))
    every = len(task.turns.order)
    assert abs(every - 1024) <= 1
    heard = Counter(task.turns.of(number)[0] for number in range(3 * every))
    assert [heard[part] / (3 * every) for part in range(3)] == pytest.approx([8 / 14, 2 / 14, 4 / 14], abs=1 / 1024)
    assert [own.corpus.folder.name for own in task.tasks] == ["low", "high", "noise"] and task.rates == [
        RATE,
        FAST,
        RATE,
    ]
    for update in range(6):
        for micro in range(4):
            made = task.prepare(update, micro, torch.Generator().manual_seed(update))
            assert made.turn == task.turns.of(4 * update + micro)[0]
            assert made.batch.heard.waveform.shape == (3, task.rates[made.turn])  # segments of 1 s


def test_rates_share_the_turns_of_their_corpus(tmp_path: Path, sources: dict[str, Path]) -> None:
    """A corpus of 16 s at 4 kHz and 4 s at 8 kHz has half of the turns, the other half is another's."""
    both = tmp_path / "both"
    (both / "audio").mkdir(parents=True)
    (both / "annotations.csv").write_text(NO_LABELS)
    for name in ("low", "high"):
        for path in (sources[name] / "audio").iterdir():
            (both / "audio" / f"{name}-{path.name}").write_bytes(path.read_bytes())
    config = PackConfig(sample_rate=FAST, keep_rates=100, labelled="all", focal_class=False)
    packed = [pack(folder, tmp_path / f"{folder.name}.packed", config) for folder in (both, sources["noise"])]
    recipe = recipe_of(tmp_path)
    parts = [
        Part(one.folder.name, recipe.data, one, [own.name for own in one.recordings], one.seconds(), 0.5)
        for one in packed
    ]
    task = build_task(spec_of(recipe, Mixture(parts, "")), torch.device("cpu"))
    assert task.rates == [RATE, FAST, RATE]
    assert np.array(task.turns.counts) / 1024 == pytest.approx([0.4, 0.1, 0.5], abs=1 / 1024)


@pytest.mark.slow
def test_a_training_that_was_stopped_and_travelled_as_plain_data_is_the_one_that_was_not(
    tmp_path: Path, packed: dict[str, Corpus]
) -> None:
    recipe = recipe_of(tmp_path)
    given = spec_of(recipe, mixture_of(recipe, packed))
    whole = run_loop(given, tmp_path / "whole")
    run_loop(given, tmp_path / "stopped", stop_after=4)
    sent = TrainingSpec.model_validate(json.loads(json.dumps(given.model_dump(mode="json"))))
    assert sent == given
    again = run_loop(sent, tmp_path / "stopped", resume=checkpoints.newest(tmp_path / "stopped"))
    assert whole.weights(6).keys() == again.weights(6).keys()
    assert all(torch.equal(value, again.weights(6)[key]) for key, value in whole.weights(6).items())


def test_a_job_on_a_cluster_and_the_nodes_of_trials_find_each_corpus(tmp_path: Path) -> None:
    made = tree()
    made["pretrain_data"]["low"]["annotations"] = {"mapping": "names.csv"}
    file = read_recipe(str(write_recipe(tmp_path / "several.yaml", made)), ["pretrain_data.noise=null"])
    sent = for_cluster(file)
    there = [str(Path(name).absolute()) for name in ("low", "high")]
    assert sources_of(sent.resolve()) == there
    assert sent.tree["pretrain_data"]["low"]["annotations"]["mapping"] == str(Path("names.csv").absolute())
    assert set(map(str, needed([file.resolve()]))) == {*there, str(Path("names.csv").absolute()), str(Path.cwd())}


@pytest.mark.slow
def test_the_foundation_recipe_needs_no_recordings_to_tell_its_costs(a2v) -> None:
    for size in ("small", "base", "meerkat"):
        said = a2v("experiment", "plan", "foundation", "--step-s", "0.8", "--set", f"model.preset={size}", "--json")
        assert said.code == 0, said.err
        found = json.loads(said.out)
        assert [one["segments"] for one in found["cards"]] == [128, 16, 2] and found["audio_s_per_update"] == 1280
        assert found["cards"][0]["total_s"] == pytest.approx(100_000 * 16 * 0.8)
    tiny = load_recipe("foundation", ["pretrain_data.whales={source: whales, weight: 2}"], "tiny")
    assert [data.source for data in tiny.corpora.values()] == ["synthetic"] * 3 and tiny.finetune is None
    assert {data.keep_rates for data in tiny.corpora.values()} == {100}
    assert [data.weight for data in tiny.corpora.values()] == [None, None, 2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, sources: dict[str, Path]) -> World:
    folder = tmp_path_factory.mktemp("world")
    work = folder / "work"
    work.mkdir()
    (work / "mlflow.db").write_bytes(empty_database.read_bytes())
    made = tree(sources)
    made["pretrain_data"]["low"]["licence"] = "CC BY 4.0"
    made["pretrain_data"]["noise"] |= {"source": "synthetic", "synthetic": {"minutes": 0.5}}
    recipe = write_recipe(folder / "several.yaml", made)
    first = call_quietly("experiment", "run", recipe, "--work", work)
    assert first.code == 0, first.err
    return World(work, recipe, first)


@pytest.mark.slow
def test_runs_datasets_and_card_name_each_corpus(world: World) -> None:
    assert len(world.runs("prepare")) == 3
    (run,) = world.runs("pretrain")
    said = {}
    for one in run.inputs.dataset_inputs:
        tags = {tag.key: tag.value for tag in one.tags}
        assert tags["mlflow.data.context"] == "training"
        said[one.dataset.name] = json.loads(one.dataset.profile) | tags
    licences = {name: one.get("a2v.licence") for name, one in said.items()}
    assert licences == {"low": "CC BY 4.0", "high": "cc0 (2)", "noise": None}
    share = {name: float(one["a2v.share"]) for name, one in said.items()}
    assert said["low"]["hours"] == round(16 / 3600, 3) and said["noise"]["hours"] == round(30 / 3600, 3)
    times = {"low": 2 * 16**0.5, "high": 4**0.5, "noise": 4 * 30**0.5}
    assert share == pytest.approx({name: one / sum(times.values()) for name, one in times.items()}, abs=1e-4)
    card = world.fetch(run, "model/README.md").read_text()
    assert f"low ({share['low']:.1%} of what was heard)" in card
    assert "Licence of the recordings (high): cc0 (2)." in card and "(noise): not recorded." in card
    assert "it knows no classes" in card


@pytest.mark.slow
def test_plan_says_hours_share_and_how_often(world: World, new_work, tmp_path: Path) -> None:
    found = json.loads(call_quietly("experiment", "plan", world.recipe, "--work", world.work, "--json").out)
    assert {one["state"] for one in found["stages"]} == {"reused"} and found["finished_run"]
    assert [one["name"] for one in found["corpora"]] == list(SECONDS) and all(one["exact"] for one in found["corpora"])
    low = found["corpora"][0]
    assert low["hours"] == pytest.approx(16 / 3600) and low["licence"] == "CC BY 4.0"
    assert low["times"] == pytest.approx(6 * 2 * 3 * low["share"] / 16)  # 6 updates of 2 x 3 segments of 1 s
    said = call_quietly("experiment", "plan", world.recipe, "--work", tmp_path / "none", "--no-measure")
    assert said.code == 0 and "pretraining hears" in said.out and "about 0.00444" in said.out, said.err


@pytest.mark.slow
def test_the_same_call_reuses_all_and_another_weight_packs_nothing(world: World) -> None:
    assert "reused" in world.call().out
    other = world.call("pretrain_data.high.weight=5")
    assert other.code == 0, other.err
    assert len(world.runs("prepare")) == 3 and len(world.runs("pretrain")) == 2
