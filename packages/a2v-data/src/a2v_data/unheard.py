"""Labels above what a model can hear: half of its sample rate, the Nyquist frequency."""

from collections import Counter
from collections.abc import Iterable, Mapping

from a2v_data.annotations import Annotation

USUAL_RATES = (8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000, 256_000, 384_000, 500_000)
SHOWN_CLASSES = 5
EDGE = 0.99  # of the recording's own Nyquist frequency: a box to there over all from 0 is drawn in the waveform


def unheard_labels(rows: Iterable[Annotation], rates: Mapping[str, int], sample_rate: int) -> str | None:
    """One line about labels whose frequencies lie above half of `sample_rate` (Hz), and which rate would hear them;
    None where there are none. rates: of the recordings' files. Events without frequencies, and those over all that
    their recording has, say nothing."""
    half_hz = sample_rate / 2
    known = [row for row in rows if row.band_hz is not None and not _is_everything(row, rates.get(row.file))]
    above = [row for row in known if row.band_hz is not None and row.band_hz[1] > half_hz]
    if not above:
        return None
    wholly = Counter(row.label for row in above if row.band_hz is not None and row.band_hz[0] >= half_hz)
    highest_hz = max(row.band_hz[1] for row in above if row.band_hz is not None)
    enough = next((rate for rate in USUAL_RATES if rate >= 2 * highest_hz), round(2 * highest_hz))
    line = (
        f"{len(above)} of {len(known)} labels with frequencies reach above {half_hz:g} Hz"
        f" ({_classes(Counter(row.label for row in above))}), and at {sample_rate} Hz a model hears nothing there"
    )
    if wholly:
        line += f"; wholly above it: {sum(wholly.values())} ({_classes(wholly)})"
    return f"{line}; they reach up to {highest_hz:g} Hz, which a sample_rate of {enough} hears"


def _is_everything(row: Annotation, rate: int | None) -> bool:
    assert row.band_hz is not None
    low_hz, high_hz = row.band_hz
    return rate is not None and low_hz <= 1 and high_hz >= EDGE * rate / 2


def _classes(counts: Counter[str]) -> str:
    ordered = [f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return ", ".join(ordered[:SHOWN_CLASSES]) + (", ..." if len(ordered) > SHOWN_CLASSES else "")
