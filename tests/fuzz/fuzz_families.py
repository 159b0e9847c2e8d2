"""All families of mutated inputs, by name. Heavy modules are imported here once, for the forks that run the cases."""

import a2v_experiments.cli  # noqa: F401
import fuzz_tables
import h5py  # noqa: F401
import soundfile  # noqa: F401
from fuzz_audio import AUDIO, PREDICT
from fuzz_documents import MAPPING, RECIPE, THRESHOLDS, XENO_CANTO
from fuzz_folders import CORPUS, MODEL, STATE
from fuzz_names import NAMES
from fuzz_requests import REQUESTS_FAMILY
from fuzz_run import Family
from fuzz_served import SERVED

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        AUDIO, PREDICT, SERVED, RECIPE, MAPPING, THRESHOLDS, XENO_CANTO, MODEL, STATE, CORPUS, NAMES, REQUESTS_FAMILY,
        *fuzz_tables.FAMILIES,
    )
}  # fmt: skip
