"""A packed corpus whose recordings keep sample rates of their own."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.corpus import Corpus
from a2v_data.pack import PackConfig, kept_rate, pack

RATES = {"a.wav": 8000, "b.wav": 22_050, "c.wav": 16_000, "d.wav": 48_000}
SECONDS = {"a.wav": 3.0, "b.wav": 2.5, "c.wav": 1.0, "d.wav": 4.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every recording counts its own samples; a call in each from .5 to .7 s."""
    folder = tmp_path_factory.mktemp("rates")
    (folder / "audio").mkdir()
    for name, rate in RATES.items():
        ramp_N = np.arange(round(SECONDS[name] * rate)) % 1000
        soundfile.write(folder / "audio" / name, ramp_N.astype(np.int16), rate, subtype="PCM_16")
    rows = "".join(f"{name},0.5,0.7,cc\n" for name in RATES)
    (folder / "annotations.csv").write_text(f"file,onset_s,offset_s,label\n{rows}")
    return folder


@pytest.fixture(scope="module")
def corpus(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    config = PackConfig(sample_rate=32_000, keep_rates=100)
    return pack(source, tmp_path_factory.mktemp("store") / "store", config)


def test_lower_rates_are_kept_and_higher_ones_come_down_to_the_limit(corpus: Corpus) -> None:
    assert corpus.sample_rate == 32_000
    assert {one.name: corpus.rate(n) for n, one in enumerate(corpus.recordings)} == {
        "a.wav": 8000, "b.wav": 22_000, "c.wav": 16_000, "d.wav": 32_000,
    }  # fmt: skip
    durations = {one.name: corpus.duration_s(n) for n, one in enumerate(corpus.recordings)}
    assert durations == pytest.approx(SECONDS, abs=1e-4) and corpus.seconds() == pytest.approx(10.5, abs=1e-3)


def test_what_keeps_its_rate_keeps_its_samples(corpus: Corpus) -> None:
    for name in ("a.wav", "c.wav"):
        (number,) = corpus.indices([name])
        one = corpus.recordings[number]
        samples_N = corpus.audio[one.offset : one.offset + one.n_samples]
        assert np.array_equal(samples_N, np.arange(one.n_samples) % 1000)


def test_segments_and_targets_are_in_seconds_at_every_rate(corpus: Corpus) -> None:
    """Of 1 s, every .5 s: of 3, 2.5, 1 and 4 s of sound 5, 4, 1 and 7; the call is in frames 50 to 69 of the first."""
    segments = corpus.segments(1.0, 0.5)
    names = [corpus.recordings[number].name for number in segments["recording"]]
    assert [names.count(name) for name in RATES] == [5, 4, 1, 7]
    for segment in segments:
        rate = corpus.rate(segment["recording"])
        assert (
            segment["start"] % (rate // 2) == 0
            or segment["start"] + rate == corpus.recordings[segment["recording"]].n_samples
        )
        waveform_BN, lengths_B = corpus.waveforms(segment[None], corpus.at(rate).segment_samples(1.0))
        assert waveform_BN.shape == (1, rate) and lengths_B[0] == rate
        target_TC = corpus.targets(segment[None], 100.0, 100)[0]
        begin = round(0.5 * 100) - round(segment["start"] / rate * 100)
        assert np.flatnonzero(target_TC[:, 0]).tolist() == [t for t in range(begin, begin + 20) if 0 <= t < 100]
    assert corpus.is_shorter(*corpus.indices(["c.wav"]), 1.1) and not corpus.is_shorter(*corpus.indices(["c.wav"]), 1.0)


def test_it_is_read_again_by_this_version_only(corpus: Corpus) -> None:
    assert corpus.meta["format_version"] == 3  # older ones would take all for one rate
    again = Corpus.open(corpus.folder)
    assert again.rates.tolist() == corpus.rates.tolist() and again.at(8000).sample_rate == 8000
    again.verify()


def test_one_rate_is_written_as_ever(source: Path, tmp_path: Path) -> None:
    plain = pack(source, tmp_path / "store", PackConfig(sample_rate=16_000))
    assert "rates" not in plain.meta and plain.meta["format_version"] == 1
    assert set(plain.rates.tolist()) == {16_000} and "keep_rates" not in plain.meta["config"]


@pytest.mark.parametrize(
    ("own", "frames", "kept"),
    [(8000, 100, 8000), (11_025, 100, 11_000), (44_100, 100, 44_100), (44_100, 200, 44_000), (96_000, 100, 48_000),
     (47_990, 100, 48_000), (8000, None, 48_000), (30, 100, 100)],
)  # fmt: skip
def test_kept_rates_have_whole_samples_in_a_frame(own: int, frames: float | None, kept: int) -> None:
    assert kept_rate(own, 48_000, frames) == kept


def test_a_limit_is_needed() -> None:
    with pytest.raises(ValueError, match="keep_rates: needs sample_rate, the highest that is kept"):
        PackConfig(keep_rates=100)


def test_who_counts_samples_of_one_rate_finds_the_same_times(corpus: Corpus) -> None:
    timed = corpus.timed_at(16_000)
    assert [timed.duration_s(n) for n in range(4)] == pytest.approx([corpus.duration_s(n) for n in range(4)], abs=1e-4)
    assert set(timed.rates.tolist()) == {16_000} and not len(timed.audio)
    for number in range(4):
        assert np.array_equal(timed.labels(number), corpus.labels(number))
        segment = timed.segments(1.0, recordings=[number])[:1]
        target_BTC = timed.targets(segment, 100.0, 100)
        assert np.flatnonzero(target_BTC[0, :, 0]).tolist() == list(range(50, 70))
    assert timed.timed_at(16_000) is timed
