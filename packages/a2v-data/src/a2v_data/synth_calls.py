"""Sounds of the synthetic corpus: twelve kinds of event and the noises between them.

Every class has a signature of its own (pitch, its course, harmonics, noise, pulsing, length); individuals
differ in pitch, tempo and timbre, and no two calls of an individual are the same. All values are made up in
the likeness of meerkat calls; nothing here is a measurement. Legend: N samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

SAMPLE_RATE = 8000
NYQUIST = SAMPLE_RATE / 2


@dataclass(frozen=True, slots=True)
class Signature:
    """How a class sounds. Lengths in seconds, frequencies in Hz.

    course: (relative time, relative pitch) points. tilt_db: fall per harmonic. formant: centre of the
    strongest band. noise: share of hiss, in `noise_band`. pulse: rate and depth of amplitude modulation.
    vibrato: rate and depth of pitch modulation. attack: rise time. per_hour: events in an hour of MeerKAT's
    labelled data, from the paper's sample sizes.
    """

    per_hour: float
    length: tuple[float, float]
    pitch: float
    course: tuple[tuple[float, float], ...] = ((0, 1), (1, 1))
    tilt_db: float = 6.0
    formant: float = 1200.0
    noise: float = 0.1
    noise_band: tuple[float, float] = (500.0, 3000.0)
    pulse: tuple[float, float] = (0.0, 0.0)
    vibrato: tuple[float, float] = (0.0, 0.0)
    attack: float = 0.008


SIGNATURES = {
    "cc": Signature(607, (0.10, 0.24), 520, ((0, 1.05), (1, 0.9)), 4, 1000, 0.25, (400, 2200), (42, 0.7)),
    "sn": Signature(367, (0.03, 0.06), 680, ((0, 0.85), (1, 1.15)), 5, 1400, 0.08, attack=0.004),
    "soc": Signature(132, (0.15, 0.30), 850, ((0, 0.85), (0.45, 1.2), (1, 0.85)), 5, 1700, 0.1, vibrato=(24, 0.05)),
    "oth": Signature(76, (0.12, 0.30), 1250, ((0, 1.25), (0.5, 0.8), (1, 1.25)), 8, 1300, 0.15),
    "al": Signature(45, (0.12, 0.30), 1000, ((0, 1.2), (1, 0.7)), 3, 2000, 0.7, (1200, 3200), (95, 0.5)),
    "agg": Signature(35, (0.25, 0.45), 240, ((0, 0.9), (0.4, 1.15), (1, 0.85)), 2, 700, 0.55, (300, 1500), (27, 0.85)),
    "mo": Signature(29, (0.15, 0.28), 620, ((0, 0.8), (1, 1.75)), 6, 1500, 0.04),
    "ld": Signature(4.5, (0.20, 0.35), 900, ((0, 1.15), (0.45, 1.15), (0.55, 0.78), (1, 0.78)), 5, 1400, 0.05),
    "synch": Signature(54, (1.7, 2.3), 150, ((0, 1.1), (0.3, 0.95), (0.6, 1.15), (1, 0.85)), 1, 600, 0.05),
    "eating": Signature(20.5, (0.5, 1.4), 0),
    "beep": Signature(11.7, (0.15, 0.30), 2900, attack=0.003),
}
VOCALISATIONS = ("sn", "cc", "ld", "oth", "mo", "al", "soc", "agg")


@dataclass(frozen=True, slots=True)
class Individual:
    """Factors by which one animal differs from the class signatures; `tilt_db` is added."""

    pitch: float
    tempo: float
    formant: float
    tilt_db: float


def draw_individual(rng: Generator) -> Individual:
    """One animal: pitch about 7 % from the others, tempo 10 %, formants 8 %, timbre 1 dB per harmonic."""
    pitch, tempo, formant = np.exp(rng.normal(0, (0.07, 0.10, 0.08)))
    return Individual(float(pitch), float(tempo), float(formant), float(rng.normal(0, 1.0)))


def draw_length(name: str, individual: Individual, rng: Generator) -> int:
    """Samples in one event of class `name`, within the signature's bounds."""
    low, high = SIGNATURES[name].length
    seconds = np.clip(rng.uniform(low, high) * individual.tempo, low, high)
    return round(seconds * SAMPLE_RATE)


def event_sound(name: str, samples: int, individual: Individual, rng: Generator) -> np.ndarray:
    """One event of class `name`, float64 (N,), RMS 1, silent outside its onset and offset by construction."""
    signature = SIGNATURES[name]
    if name == "eating":
        sound_N = _chewing(samples, rng)
    elif name == "beep":
        pitch = signature.pitch * np.exp(rng.normal(0, 0.004))
        sound_N = np.sin(2 * np.pi * pitch * np.arange(samples) / SAMPLE_RATE)
        sound_N *= _envelope(samples, signature.attack, signature.attack)
    elif name == "synch":
        sound_N = _speech(samples, signature, rng)
    else:
        sound_N = _voice(samples, signature, individual, rng)
    return _unit(sound_N)


def far_away(sound_N: np.ndarray, rng: Generator) -> np.ndarray:
    """The same sound from afar: dull, with a short echo tail after its offset; longer than the input."""
    from scipy.signal import lfilter

    tail = round(0.06 * SAMPLE_RATE)
    echo_N = rng.standard_normal(tail) * np.exp(-np.arange(tail) / (0.015 * SAMPLE_RATE)) * 0.12
    echo_N[0] = 1.0
    reverberant_N = np.convolve(sound_N, echo_N)
    keep = np.exp(-2 * np.pi * rng.uniform(1200, 2200) / SAMPLE_RATE)
    dull_N = lfilter([1 - keep], [1, -keep], reverberant_N)
    return dull_N / (np.sqrt(np.mean(dull_N[: len(sound_N)] ** 2)) + 1e-12)


def noise_band(samples: int, low: float, high: float, rng: Generator) -> np.ndarray:
    """Noise with soft edges at `low` and `high` Hz, RMS 1, (N,)."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum *= 1 / (1 + (low / np.maximum(hertz, 1)) ** 6) / (1 + (hertz / high) ** 6)
    return _unit(np.fft.irfft(spectrum, samples))


def background(samples: int, rng: Generator) -> np.ndarray:
    """What a collar records between calls, with wind; RMS about 1, (N,)."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hertz = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 20)
    colour = rng.uniform(0.5, 1.3)
    hiss_N = _unit(np.fft.irfft(spectrum * hertz**-colour, samples))
    gusts_N = np.exp(1.2 * _drift(samples, 1.2, rng)) * rng.uniform(0, 4)
    return hiss_N + gusts_N * noise_band(samples, 15, rng.uniform(120, 260), rng)


def burst(rng: Generator) -> np.ndarray:
    """A short broadband burst of foraging: 15 to 120 ms, as long and as loud as a call, without a pitch."""
    samples = round(np.exp(rng.uniform(np.log(0.015), np.log(0.12))) * SAMPLE_RATE)
    low = np.exp(rng.uniform(np.log(80), np.log(1500)))
    sound_N = noise_band(samples, low, min(low * np.exp(rng.uniform(0.7, 2.2)), 3800), rng)
    decay = rng.uniform(1, 6)
    return _unit(sound_N * _envelope(samples, 0.002, 0.006) * np.exp(-decay * np.linspace(0, 1, samples)))


def digging(rng: Generator) -> np.ndarray:
    """A bout of digging: 0.6 to 2.5 s of low scratches, 8 to 14 a second."""
    samples = round(rng.uniform(0.6, 2.5) * SAMPLE_RATE)
    sound_N = np.zeros(samples)
    rate = rng.uniform(8, 14)
    at = 0.0
    while (start := int(at * SAMPLE_RATE)) < samples - 400:
        length = min(round(rng.uniform(0.03, 0.07) * SAMPLE_RATE), samples - start)
        scratch_N = noise_band(length, 100, rng.uniform(500, 1400), rng) * _envelope(length, 0.006, 0.02)
        sound_N[start : start + length] += scratch_N * np.exp(rng.normal(0, 0.3))
        at += np.exp(rng.normal(0, 0.15)) / rate
    return _unit(sound_N)


def _voice(samples: int, signature: Signature, individual: Individual, rng: Generator) -> np.ndarray:
    """A call: harmonics of a drifting pitch through one formant, hiss, pulsed and enveloped."""
    time_N = np.arange(samples) / SAMPLE_RATE
    relative_N = np.linspace(0, 1, samples)
    points = np.array(signature.course)
    pitch_N = np.interp(relative_N, points[:, 0], points[:, 1]) ** np.exp(rng.normal(0, 0.15))
    pitch_N *= signature.pitch * individual.pitch * np.exp(rng.normal(0, 0.03))
    pitch_N *= np.exp(0.02 * _drift(samples, 0.04, rng))
    rate, depth = signature.vibrato
    pitch_N *= 1 + depth * np.sin(2 * np.pi * rate * time_N + rng.uniform(0, 2 * np.pi))
    formant = signature.formant * individual.formant * np.exp(rng.normal(0, 0.05))
    tilt_db = max(signature.tilt_db + individual.tilt_db, 0.5)
    tone_N = _unit(_harmonics(pitch_N, tilt_db, np.full(samples, formant), rng))
    noise = np.clip(signature.noise * np.exp(rng.normal(0, 0.2)), 0, 0.9)
    sound_N = (1 - noise) * tone_N + noise * noise_band(samples, *signature.noise_band, rng)
    rate, depth = signature.pulse
    if depth:
        phase_N = 2 * np.pi * rate * np.exp(rng.normal(0, 0.06)) * time_N + rng.uniform(0, 2 * np.pi)
        sound_N *= 1 - depth * (0.5 + 0.5 * np.sin(phase_N))
    release = min(0.4 * samples / SAMPLE_RATE, 2.5 * signature.attack)
    return sound_N * _envelope(samples, signature.attack, release)


def _speech(samples: int, signature: Signature, rng: Generator) -> np.ndarray:
    """A spoken synchronisation call: a buzz through two formants that change with every syllable."""
    steps = round(samples / SAMPLE_RATE * rng.uniform(4, 5))
    knots = np.linspace(0, samples, steps + 1)
    points = np.array(signature.course)
    relative_N = np.linspace(0, 1, samples)
    pitch_N = signature.pitch * np.exp(rng.normal(0, 0.12)) * np.interp(relative_N, points[:, 0], points[:, 1])
    pitch_N *= np.exp(0.03 * _drift(samples, 0.15, rng))
    sound_N = np.zeros(samples)
    for low, high in ((350, 800), (1100, 2300)):
        formant_N = np.interp(np.arange(samples), knots, rng.uniform(low, high, steps + 1))
        sound_N += _harmonics(pitch_N, signature.tilt_db, formant_N, rng)
    loud_N = np.interp(np.arange(samples), (knots[1:] + knots[:-1]) / 2, rng.uniform(0.6, 1.2, steps))
    beat_N = np.abs(np.sin(np.pi * relative_N * steps)) ** 0.5
    return sound_N * loud_N * (0.15 + 0.85 * beat_N) * _envelope(samples, 0.02, 0.04)


def _chewing(samples: int, rng: Generator) -> np.ndarray:
    """Eating: regular crunches, 5 to 7 a second, each a crackle above 1.2 kHz, from first to last."""
    sound_N = np.zeros(samples)
    crunch = round(0.07 * SAMPLE_RATE)
    count = max(round(samples / SAMPLE_RATE * rng.uniform(5, 7)), 3)
    for start in np.linspace(0, samples - crunch, count):
        start = int(np.clip(start + rng.normal(0, 0.006) * SAMPLE_RATE, 0, samples - crunch))
        crackle_N = noise_band(crunch, 1200, 3700, rng) * (rng.random(crunch) < 0.3)
        sound_N[start : start + crunch] += crackle_N * _envelope(crunch, 0.004, 0.04) * rng.uniform(0.7, 1.3)
    return sound_N


def _harmonics(pitch_N: np.ndarray, tilt_db: float, formant_N: np.ndarray, rng: Generator) -> np.ndarray:
    """Harmonics of a pitch (Hz per sample) below Nyquist, `tilt_db` weaker each, raised around a formant."""
    phase_N = 2 * np.pi * np.cumsum(pitch_N) / SAMPLE_RATE
    sound_N = np.zeros(len(pitch_N))
    for number in range(1, min(int(0.95 * NYQUIST / pitch_N.min()), 24) + 1):
        hertz_N = number * pitch_N
        level_N = 10 ** (-tilt_db * (number - 1) / 20) + 0.8 * np.exp(-(((hertz_N - formant_N) / 350) ** 2))
        level_N *= hertz_N < 0.95 * NYQUIST
        sound_N += level_N * np.sin(number * phase_N + rng.uniform(0, 2 * np.pi))
    return sound_N


def _drift(samples: int, time_s: float, rng: Generator) -> np.ndarray:
    """A smooth random course of unit size that changes within about `time_s` seconds, (N,)."""
    knots = max(int(samples / SAMPLE_RATE / time_s), 1) + 3
    return np.interp(np.linspace(1, knots - 2, samples), np.arange(knots), rng.standard_normal(knots))


def _envelope(samples: int, attack_s: float, release_s: float) -> np.ndarray:
    """Raised-cosine rise and fall within (N,) samples."""
    rise = min(max(round(attack_s * SAMPLE_RATE), 1), samples // 2)
    fall = min(max(round(release_s * SAMPLE_RATE), 1), samples // 2)
    envelope_N = np.ones(samples)
    envelope_N[:rise] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(rise) + 0.5) / rise)
    envelope_N[samples - fall :] = 0.5 + 0.5 * np.cos(np.pi * (np.arange(fall) + 0.5) / fall)
    return envelope_N


def _unit(sound_N: np.ndarray) -> np.ndarray:
    return sound_N / (np.sqrt(np.mean(sound_N**2)) + 1e-12)
