#!/usr/bin/env bash
# The virtual environment and packages if need be, then ruff and the tests. Arguments go to pytest:
#   bash launch/test.sh -m "not slow"
#   bash launch/test.sh -m soak -n 0            the long form, one test at a time
#   PYTHON=python3.13 bash launch/test.sh       with another Python, in .venv-3.13
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/environment.sh" # $0 may be a link
enter_top

environment requirements.txt tests/requirements.txt
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
exec "$venv/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
