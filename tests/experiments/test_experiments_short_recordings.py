"""Recordings shorter than a segment take part in pretraining: normalised over their own samples, then padded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import AUDIO, EVENT_DTYPE, CorpusWriter
from a2v_experiments.basics.errors import UserError
from a2v_experiments.basics.fingerprint import fingerprint
from a2v_experiments.stages.heard import heard_by
from a2v_experiments.training.spec import TrainingSpec
from a2v_experiments.training.tasks import PretrainTask
from experiments_world import RATE, make_recipe, training_spec

SHORT, LONG = 1501, 3 * RATE  # segments have 1 s


def a_corpus(folder: Path, *lengths: int) -> Corpus:
    folder.mkdir()
    writer, rng = CorpusWriter(folder, RATE, ["sn", "cc"]), np.random.default_rng(0)
    for number, samples in enumerate(lengths):
        audio_N = (2000 + 4000 * rng.normal(size=samples)).astype(np.int16)  # with a direct current
        writer.add(f"rec{number}", audio_N, True, RATE, samples, 1.0)
    writer.finish(np.empty(0, EVENT_DTYPE))
    return Corpus.open(folder)


def heard(spec: TrainingSpec, updates: int) -> torch.Tensor:
    """The waveforms (B, N) that the model gets."""
    task, seen = PretrainTask(spec, torch.device("cpu")), []
    task.model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for update in range(updates):
        step = task.step(update, 0, torch.Generator().manual_seed(update))
        assert torch.isfinite(step.loss_sum)
    return torch.cat(seen)


@pytest.mark.parametrize("sampling", ["null", "{active_share: 0.5}"])
def test_they_are_heard_padded_after_normalisation(tmp_path: Path, sampling: str) -> None:
    corpus = a_corpus(tmp_path / "c", SHORT, SHORT, SHORT, LONG)
    recipe = make_recipe(tmp_path, ["pretrain.bcl=null", f"pretrain.sampling={sampling}"])
    names = heard_by(recipe, corpus).names
    assert names == ["rec0", "rec1", "rec2", "rec3"]
    wave_BN = heard(training_spec(recipe, "pretrain", corpus.folder, names), 8)
    assert wave_BN.shape[1] == RATE * recipe.data.segment_s
    padded_B = (wave_BN[:, SHORT:] == 0).all(1)
    assert 0 < padded_B.sum() < len(wave_BN)
    sound_RN = torch.from_numpy(corpus.audio[: 3 * SHORT].astype(np.float32)).view(3, SHORT)
    expected_RN = (sound_RN - sound_RN.mean(1, keepdim=True)) / sound_RN.std(1, correction=0, keepdim=True)
    for own_N in wave_BN[padded_B, :SHORT]:
        assert (own_N - expected_RN).abs().amax(1).min() < 1e-2  # it is one of them
    for own_N in wave_BN[~padded_B]:
        assert abs(own_N.mean()) < 1e-3 and abs(own_N.var(correction=0) - 1) < 1e-2


def test_mixing_lets_a_partner_be_heard_in_the_padding(tmp_path: Path) -> None:
    corpus = a_corpus(tmp_path / "c", SHORT, LONG)
    silent = []
    for bcl in ("null", "{}"):
        recipe = make_recipe(tmp_path, [f"pretrain.bcl={bcl}"])
        wave_BN = heard(training_spec(recipe, "pretrain", corpus.folder, ["rec0", "rec1"]), 8)
        silent.append(int((wave_BN[:, SHORT:] == 0).all(1).sum()))
    assert silent[1] < silent[0]  # those that a short one, or no one, was mixed with


def test_without_short_ones_a_pretraining_is_the_one_that_it_was(tmp_path: Path) -> None:
    """Its fingerprint is made from the same names and audio as before short ones took part."""
    corpus, recipe = a_corpus(tmp_path / "c", LONG, RATE), make_recipe(tmp_path)
    names = ["rec0", "rec1"]
    known = fingerprint("audio", {"names": names, "audio": corpus.meta["checksums"][AUDIO]})
    found = heard_by(recipe, corpus)
    assert (found.names, found.fingerprint) == (names, known)


def test_only_short_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data\.segment_s = 1\.0: no recording is that long; give a shorter one$"):
        heard_by(make_recipe(tmp_path), a_corpus(tmp_path / "c", SHORT, SHORT))
