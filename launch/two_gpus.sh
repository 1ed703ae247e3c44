#!/usr/bin/env bash
# The paper's set-up: one net over two GPUs of a machine, a tower on each, in one process.
#   bash launch/two_gpus.sh --workdir=runs/imagenet [any flag of alexnet_jax.main]
# Needs the store of ImageNet (python -m alexnet_jax.prepare --help). With fewer than two devices
# main says so in one line. On four GPUs: --config.parallel.data=2, two by two.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/environment.sh" # $0 may be a link
enter_top
made_venv

# JAX takes 75 % of each GPU's memory at its start. Where others use the GPU too, set before this
# script XLA_PYTHON_CLIENT_MEM_FRACTION=0.4 (a smaller share), or
# XLA_PYTHON_CLIENT_PREALLOCATE=false (memory as it is needed: slower, and it fragments).
exec .venv/bin/python -m alexnet_jax.main \
  --config=configs/imagenet.py --config.parallel.tower=2 "$@"
