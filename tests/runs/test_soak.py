"""The long form, which leaves a record: bash launch/test.sh -m soak

Records go to results/soak, or to the folder that SOAK_RECORDS names.
"""

import json
import os
import platform
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import SMALL, TOP, lines, run, start
from kills import assert_same_run, kill_repeatedly, records

KILLS = 20
MOMENTS = ("start", "save", "step", "start-up", "evaluation", "save", "compilation", "step")
LAYOUTS = {
    "one_device": ((), {}),
    "two_towers": (("--config.parallel.tower=2",), {"JAX_NUM_CPU_DEVICES": "2"}),
}
STEPS = 10_000
LONG = (
    "--config=configs/base.py",
    "--config.data.image_size=60",
    "--config.data.crop_size=52",
    "--config.model.width=0.0625",
    "--config.data.augment.flip=True",
    "--config.data.augment.colour=code",
    "--config.train.log_every_steps=100",
    "--config.eval.every_epochs=5",
    "--config.checkpoint.every_steps=250",
    f"--config.train.steps={STEPS}",
)


def write_record(name, content):
    """A JSON file with the result, the machine and the commit."""
    folder = Path(os.environ.get("SOAK_RECORDS", TOP / "results" / "soak"))
    folder.mkdir(parents=True, exist_ok=True)
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(describe, cwd=TOP, capture_output=True, text=True).stdout.strip()
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "jax": jax.__version__}
    date = time.strftime("%Y-%m-%d")
    record = {"commit": commit, "date": date, "machine": machine, **content}
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


@pytest.mark.soak
@pytest.mark.parametrize("layout", LAYOUTS)
def test_twenty_kills(tmp_path, layout):
    """Final state, evaluation and metrics are bit for bit those of the uninterrupted run."""
    flags, env = LAYOUTS[layout]
    # Small batches of validation images, so that evaluations take a while too.
    arguments = (*SMALL, *flags, "--config.checkpoint.every_steps=4", "--config.eval.batch_size=8")
    arguments += ("--config.train.steps=400",)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run("main", *arguments, f"--workdir={whole}", env=env)
    moments = [MOMENTS[i % len(MOMENTS)] for i in range(KILLS)]
    kills = kill_repeatedly(arguments, killed, moments, seed=20, env=env)
    run("main", *arguments, f"--workdir={killed}", env=env)
    content = {"layout": layout, "arguments": arguments, "kills": records(kills)}
    try:
        assert_same_run(whole, killed)
        for directory in (whole, killed):
            run("main", *SMALL, *flags, "--mode=eval", f"--workdir={directory}", env=env)
        evaluations = [(x / "eval.json").read_text() for x in (whole, killed)]
        assert evaluations[0] == evaluations[1]
    except AssertionError as difference:
        write_record(f"kills_{layout}", {**content, "result": f"different: {difference}"})
        raise
    result = "state, metrics and evaluation are the same, bit for bit"
    write_record(f"kills_{layout}", {**content, "result": result})


def sample(process, workdir):
    """Resident memory in kB, open files, and the step that was written last."""
    status = Path(f"/proc/{process}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    handles = len(list(Path(f"/proc/{process}/fd").iterdir()))
    written = lines(workdir)
    return written[-1]["step"] if written else 0, int(resident.split()[1]), handles


def watched(process, workdir):
    """Samples once a second until the process ends: int [N, 3]."""
    samples = []
    while process.poll() is None:
        try:
            samples.append(sample(process.pid, workdir))
        except (OSError, StopIteration):  # it has just ended
            break
        time.sleep(1)
    return np.array(samples)


def seconds_between(workdir, first, last):
    """Training time from one logged step to another."""
    times = {x["step"]: x["time"] for x in lines(workdir) if "train/loss" in x}
    return times[last] - times[first]


@pytest.mark.soak
def test_ten_thousand_steps(tmp_path):
    """Memory and file handles stay flat, the speed stays, with evaluations and checkpoints on."""
    process = start("main", *LONG, f"--workdir={tmp_path}")
    samples = watched(process, tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, (out, err)
    started_and_not_ended = (samples[:, 0] >= 1000) & (samples[:, 0] < STEPS)
    step, resident, handles = samples[started_and_not_ended].T
    slope = np.polyfit(step, resident, 1)[0] * 1000
    first = 1000 / seconds_between(tmp_path, 100, 1100)
    last = 1000 / seconds_between(tmp_path, STEPS - 1000, STEPS)
    content = {
        "arguments": LONG,
        "memory_kb_at_step": {
            int(x) * 1000: int(np.median(resident[step // 1000 == x]))
            for x in np.unique(step // 1000)
        },
        "memory_slope_kb_per_1000_steps": round(float(slope), 1),
        "open_files": {"lowest": int(handles.min()), "highest": int(handles.max())},
        "steps_per_second": {"first_1000": round(first, 2), "last_1000": round(last, 2)},
    }
    write_record("ten_thousand_steps", content)
    assert slope < 2000, content  # a leak of one small array a validation would be more
    assert handles[-20:].min() <= handles[:20].min() + 2, content
    assert last > 0.95 * first, content
