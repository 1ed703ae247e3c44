#!/usr/bin/env bash
# From a fresh clone to a trained and evaluated AlexNet: .venv, the packages, the main job on the
# embedded digits, its evaluation from the restored checkpoint, and figures. Run again, it trains no
# more.
# PYTHON=python3.12 bash launch/quickstart.sh takes that interpreter.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/environment.sh" # $0 may be a link
enter_top

environment requirements.txt
workdir=runs/quickstart
"$venv/bin/python" -m alexnet_jax.main --config=configs/base.py --workdir=$workdir
echo "Test set, from the restored checkpoint:"
"$venv/bin/python" -m alexnet_jax.main --workdir=$workdir --mode=eval
"$venv/bin/python" -m alexnet_jax.figures --workdir=$workdir
"$venv/bin/python" -m alexnet_jax.report --workdir=$workdir
cat <<END

Where everything lies, in $PWD:
  $workdir/config.json      every setting of the run
  $workdir/metrics.jsonl    loss, errors, rate and speed, step by step
  $workdir/tensorboard/     the same for TensorBoard
  $workdir/checkpoints/     the newest states and the best one
  $workdir/eval.json        top-1 and top-5 error on the test set
  $workdir/predictions.npz  the likeliest classes of every test image
  $workdir/report.html      all of it on one page, with the worst pictures: open it in a browser
  $workdir/figures/         training curves, first-layer kernels, the net
Go on with another setting, in $PWD:
  source $venv/bin/activate
  python -m alexnet_jax.main --config=configs/base.py --config.seed=1
END
