"""All families of mutated inputs, by name. Heavy modules are imported here once, for the forks that run the cases."""

import a2v_experiments.cli  # noqa: F401
import fuzz_tables
import h5py  # noqa: F401
import soundfile  # noqa: F401
from fuzz_audio import AUDIO
from fuzz_run import Family

FAMILIES: dict[str, Family] = {family.name: family for family in (AUDIO, *fuzz_tables.FAMILIES)}
