#!/bin/bash
# All that only a GPU can show, in under ten minutes: the tests of tests/gpu, then training and prediction timed.
#   infra/gpu_check.sh [FOLDER]            # default: $OUT, or ./gpu-check; read FOLDER/summary.md
#   infra/gpu_check.sh --dry-run [FOLDER]  # on the CPU, in tiny sizes: only whether it would run
# Python is A2V_PYTHON, or that of .venv, or python3; the project's code need not be installed, what it imports must be.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." > /dev/null && pwd)  # FOLDER and OUT are taken from where the user stands
python=${A2V_PYTHON:-$([ -x "$root/.venv/bin/python" ] && echo "$root/.venv/bin/python" || echo python3)}
exec "$python" "$root/infra/gpu_check.py" "$@"
