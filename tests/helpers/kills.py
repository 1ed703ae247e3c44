"""Kills a training again and again and starts it each time by the same command."""

import random
import time
from dataclasses import asdict, dataclass

import jax
import numpy as np
import orbax.checkpoint as ocp
from commands import lasting, lines, start

from alexnet_jax.runs import workdir

EPOCH_STEPS = 9
ITEMS = ("params", "training", "mean")


@dataclass(frozen=True)
class Kill:
    """Where a SIGKILL fell: how long after the start, and what was on the disk then."""

    moment: str
    seconds: float
    newest_line: int
    checkpoints: list[int]
    unfinished: list[str]


def newest_line(directory):
    """The last step in metrics.jsonl; 0 without one."""
    return max((line["step"] for line in lines(directory)), default=0)


def saving(directory):
    """What a save that is under way has made so far."""
    return workdir.unfinished(directory)


def wait(process, until):
    """Returns when the condition holds or the process has ended by itself."""
    deadline = time.monotonic() + 120
    while not until() and process.poll() is None:
        assert time.monotonic() < deadline, "nothing happened for two minutes"
        time.sleep(0.002)


def at_a_moment(moment, process, directory, chance):
    """Waits for a moment of this kind, chosen by chance, in a training that was just started."""
    before, left = newest_line(directory), saving(directory)
    if moment == "start":
        time.sleep(chance.uniform(0, 0.3))
    elif moment == "start-up":
        time.sleep(chance.uniform(0.3, 3))
    elif moment == "compilation":
        process.stdout.readline()  # the workdir is told when the imports are done
        time.sleep(chance.uniform(0, 1.5))
    elif moment == "step":
        steps = chance.randint(1, 2 * EPOCH_STEPS)
        wait(process, lambda: steps_since(directory, before) >= steps)
        time.sleep(chance.uniform(0, 0.1))
    elif moment == "save":
        saves = chance.randint(1, 3)
        for _ in range(saves):
            known = left
            wait(process, lambda known=known: set(saving(directory)) - set(known) != set())
            left = saving(directory)
        time.sleep(chance.uniform(0, 0.03))
    else:
        wait(process, lambda: any(is_boundary(x) for x in new_steps(directory, before)))
        time.sleep(chance.uniform(0, 0.3))


def new_steps(directory, before):
    """The steps that were written after step `before`."""
    return [x["step"] for x in lines(directory) if "train/loss" in x and x["step"] > before]


def steps_since(directory, before):
    """How many there are of them."""
    return len(new_steps(directory, before))


def is_boundary(step):
    """Whether a validation follows this step."""
    return step % EPOCH_STEPS == 0


def kill_repeatedly(
    arguments,
    directory,
    moments,
    seed,
    env=None,
):
    """Starts and kills a training once for each of the moments."""
    chance, kills = random.Random(seed), []
    for moment in moments:
        process, began = start("main", *arguments, f"--workdir={directory}", env=env), time.time()
        at_a_moment(moment, process, directory, chance)
        ended = process.poll()
        process.kill()
        out, err = process.communicate()
        assert ended is None, f"ended by itself before {moment}: {ended}\n{out}\n{err}"
        seconds = round(time.time() - began, 3)
        there = workdir.steps(directory), workdir.unfinished(directory)
        kills.append(Kill(moment, seconds, newest_line(directory), *there))
    return kills


def records(kills):
    """The kills as they are written to a file."""
    return [asdict(kill) for kill in kills]


def whole_state(directory):
    """Every array of the newest step: parameters, velocities, schedule, sums, mean image."""
    step, faults = workdir.newest_good(directory)
    assert not faults
    handlers = {name: ocp.StandardCheckpointHandler() for name in ITEMS}
    wanted = ocp.args.Composite(**{name: ocp.args.StandardRestore() for name in ITEMS})
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler(**handlers)) as reader:
        found = reader.restore(workdir.step_folder(directory, step).absolute(), args=wanted)
    leaves, _ = jax.tree_util.tree_flatten_with_path({name: found[name] for name in ITEMS})
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same_run(one, other):
    """The same state and metrics, bit for bit; every step in metrics.jsonl once."""
    first, second = whole_state(one), whole_state(other)
    assert first.keys() == second.keys() and len(first) > 30
    for name in first:
        assert first[name].dtype == second[name].dtype
        assert first[name].tobytes() == second[name].tobytes(), name
    assert lasting(one) == lasting(other)
    trained = [line["step"] for line in lines(other) if "train/loss" in line]
    assert trained == list(range(1, len(trained) + 1))
