#!/usr/bin/env bash
# From a fresh clone to a trained and evaluated AlexNet: .venv, the packages, the main job on the
# embedded digits, and its evaluation from the restored checkpoint. Run again, it repeats nothing.
# PYTHON=python3.12 bash launch/quickstart.sh takes that interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh

environment requirements.txt
workdir=runs/quickstart
"$venv/bin/python" -m alexnet_jax.main --config=configs/base.py --workdir=$workdir
echo "Test set, from the restored checkpoint:"
"$venv/bin/python" -m alexnet_jax.main --workdir=$workdir --mode=eval
cat <<END

Where everything lies:
  $workdir/config.json      every setting of the run
  $workdir/metrics.jsonl    loss, errors, rate and speed, step by step
  $workdir/tensorboard/     the same for TensorBoard
  $workdir/checkpoints/     the newest states and the best one
  $workdir/eval.json        top-1 and top-5 error on the test set
Go on with another setting:
  source $venv/bin/activate
  python -m alexnet_jax.main --config=configs/base.py --config.seed=1
END
