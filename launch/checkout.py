"""The checkout that this folder belongs to; the Python files beside this one import it first.

Importing it makes `alexnet_jax` importable without installation and ends the process with one
error line if the environment is not what the project needs.
"""

import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
RESULTS = TOP / "results"  # the records
sys.path.insert(0, str(TOP))

import alexnet_jax  # noqa: E402, F401  it checks interpreter, packages and variables
