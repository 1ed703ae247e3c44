#!/usr/bin/env bash
# From a fresh clone to a trained and evaluated AlexNet: .venv, the packages, the main job on the
# embedded digits, and its evaluation from the restored checkpoint. Run again, it repeats nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh

environment requirements.txt
workdir=runs/quickstart
.venv/bin/python -m alexnet_jax.main --config=configs/base.py --workdir=$workdir
echo "Test set, from the restored checkpoint:"
.venv/bin/python -m alexnet_jax.main --config=configs/base.py --workdir=$workdir --mode=eval
cat <<END

Where everything lies:
  $workdir/config.json      every setting of the run
  $workdir/metrics.jsonl    loss, errors, rate and speed, step by step
  $workdir/tensorboard/     the same for TensorBoard
  $workdir/checkpoints/     the newest states and the best one
  $workdir/eval.json        top-1 and top-5 error on the test set
Change a setting:  .venv/bin/python -m alexnet_jax.main --config=configs/base.py --config.optim.learning_rate=0.02
END
