"""Checkpoints that can be trusted: what is restored is what was saved, or it is refused."""

import dataclasses
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from alexnet_jax import checksums
from alexnet_jax.errors import UserError
from alexnet_jax.runs import record, workdir
from alexnet_jax.runs.checkpoint import Checkpoints, restore_params
from alexnet_jax.runs.record import DataFacts, RunRecord

SIZE = 1000


class State(struct.PyTreeNode):
    """As much of a training state as a checkpoint has to tell apart."""

    params: dict
    velocity: jax.Array


def state_of(step):
    """The state, the mean image and the record of a step."""
    params = {"conv1": {"kernel": jnp.full((SIZE, 3), step, jnp.float32)}}
    state = State(params, jnp.full(SIZE, -step))
    facts = DataFacts("folder", f"{step:064x}", ("ant", "wasp"), 72, {"train": 9, "val": step})
    return state, np.full(3, step), RunRecord(1.5 * step, "threefry2x32", facts)


def save(checkpoints, *steps, error=None):
    for step in steps:
        checkpoints.save(step, *state_of(step), error)


def abstract():
    return jax.eval_shape(lambda: state_of(0)[0])


def abstract_params():
    return abstract().params


def assert_restored(restored, step):
    state, mean, facts = state_of(step)
    assert restored.step == step and restored.record == facts
    found, wanted = restored.params["conv1"]["kernel"], state.params["conv1"]["kernel"]
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(restored.mean, mean)
    if restored.training is not None:
        np.testing.assert_array_equal(restored.state.params["conv1"]["kernel"], wanted)
        np.testing.assert_array_equal(restored.state.velocity, state.velocity)


@pytest.fixture
def saved(tmp_path):
    """A workdir with the good steps 10, 20 and 30."""
    with Checkpoints(tmp_path, 3) as checkpoints:
        save(checkpoints, 10, 20, 30)
    (tmp_path / workdir.CONFIG).write_text("{}")
    return tmp_path


def resumed(directory, keep=3):
    with Checkpoints(directory, keep) as checkpoints:
        return checkpoints.restore(abstract())


def payload(folder):
    """The largest file of a step: parameters or velocities."""
    files = [x for x in folder.rglob("*") if x.is_file() and x.name != checksums.RECORD]
    return max(files, key=lambda x: x.stat().st_size)


def flip(path, at=None):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


def truncate(folder):
    path = payload(folder)
    path.write_bytes(path.read_bytes()[:-1])


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGES = {
    "truncated": (truncate, "bytes instead of"),
    "a flipped bit": (lambda folder: flip(payload(folder)), "has changed"),
    "a file is gone": (lambda folder: payload(folder).unlink(), "is missing"),
    "an empty folder": (empty, "it is empty"),
    "no record": (lambda folder: (folder / checksums.RECORD).unlink(), "not written to its end"),
    "a cut record": (
        lambda folder: (folder / checksums.RECORD).write_text('{"a": {'),
        "cannot be read",
    ),
    "a record of something else": (
        lambda folder: (folder / checksums.RECORD).write_text("[1, 2]"),
        "cannot be read",
    ),
}


def damages():
    return pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)


def test_what_is_restored_is_what_was_saved(saved):
    assert_restored(resumed(saved), 30)
    assert_restored(restore_params(saved, abstract_params()), 30)
    assert_restored(restore_params(saved / "checkpoints/10", abstract_params()), 10)


@damages()
def test_the_newest_good_step_is_taken_and_the_bad_one_named(saved, damage, reason, capsys):
    damage(workdir.step_folder(saved, 30))
    assert_restored(restore_params(saved, abstract_params()), 20)
    (line,) = capsys.readouterr().out.splitlines()
    assert f"{saved}/checkpoints/30 is bad" in line and reason in line
    assert "step 20 is taken" in line
    assert workdir.steps(saved) == [10, 20, 30]  # one that only reads changes nothing
    assert_restored(resumed(saved), 20)
    (line,) = capsys.readouterr().out.splitlines()
    assert reason in line


@damages()
def test_a_bad_step_that_was_named_is_refused(saved, damage, reason):
    damage(workdir.step_folder(saved, 20))
    for use in (workdir.check_restorable, lambda path: restore_params(path, abstract_params())):
        with pytest.raises(UserError, match=reason) as mistake:
            use(saved / "checkpoints/20")
        assert "checkpoints/20 is bad" in str(mistake.value)
    assert_restored(resumed(saved), 30)


def test_none_good_is_an_error_and_nothing_is_removed(saved):
    for step, (damage, _) in zip((10, 20, 30), DAMAGES.values(), strict=False):
        damage(workdir.step_folder(saved, step))
    there = sorted(saved.rglob("*"))
    for use in (
        workdir.check_restorable,
        resumed,
        lambda path: restore_params(path, abstract_params()),
    ):
        with pytest.raises(UserError, match="no good checkpoint") as mistake:
            use(saved)
        for step in (10, 20, 30):
            assert f"checkpoints/{step} is bad" in str(mistake.value)
        assert sorted(saved.rglob("*")) == there


def test_every_bit_of_every_file_counts(saved):
    folder = workdir.step_folder(saved, 30)
    rng = np.random.default_rng(0)
    for path in [x for x in folder.rglob("*") if x.is_file() and x.stat().st_size]:
        content = path.read_bytes()
        flip(path, rng.integers(len(content)))
        assert checksums.damage(folder), path
        path.write_bytes(content)
        assert not checksums.damage(folder)


def test_bad_steps_are_set_aside_until_they_are_written_again(saved):
    truncate(workdir.step_folder(saved, 30))
    truncate(workdir.step_folder(saved, 20))
    with Checkpoints(saved, 2) as checkpoints:
        assert checkpoints.restore(abstract()).step == 10
        names = {x.name for x in (saved / "checkpoints").iterdir()}
        assert names == {"10", "20.bad", "30.bad"}
        save(checkpoints, 20)
    assert {x.name for x in (saved / "checkpoints").iterdir()} == {"10", "20", "30.bad"}
    (saved / "checkpoints/10.copy").mkdir()  # the user's own
    with Checkpoints(saved, 2) as checkpoints:
        save(checkpoints, 30)
    assert {x.name for x in (saved / "checkpoints").iterdir()} == {"20", "30", "10.copy"}
    assert_restored(resumed(saved), 30)


@pytest.mark.parametrize("name", ["40.saving", "40.saving.orbax-checkpoint-tmp"])
def test_what_a_killed_save_left_is_no_checkpoint(saved, name, capsys):
    shutil.copytree(workdir.step_folder(saved, 30), saved / "checkpoints" / name)
    with Checkpoints(saved, 3) as checkpoints:
        assert_restored(checkpoints.restore(abstract()), 30)
        assert f"checkpoint {name} was not written to its end" in capsys.readouterr().out
        save(checkpoints, 40)
    assert workdir.steps(saved) == [20, 30, 40] and not workdir.unfinished(saved)
    assert_restored(resumed(saved), 40)


def test_a_first_save_that_was_killed_leaves_nothing_to_restore(tmp_path, capsys):
    (tmp_path / "checkpoints/5.saving.orbax-checkpoint-tmp").mkdir(parents=True)
    assert resumed(tmp_path) is None
    assert "5.saving" in capsys.readouterr().out
    with pytest.raises(UserError, match="no checkpoint in"):
        workdir.check_restorable(tmp_path)


def test_the_newest_and_the_best_stay(tmp_path):
    errors = {1: None, 2: 0.3, 3: 0.1, 4: 0.2, 5: None, 6: 0.4}
    with Checkpoints(tmp_path, 2) as checkpoints:
        for step, error in errors.items():
            save(checkpoints, step, error=error)
    assert workdir.steps(tmp_path) == [3, 5, 6]
    with Checkpoints(tmp_path, 1) as checkpoints:  # the errors are known after a restart
        save(checkpoints, 7)
    assert workdir.steps(tmp_path) == [3, 7]


def test_no_step_is_ever_seen_half_written(tmp_path):
    """A reader that looks all the time finds only whole steps, and after the first always one."""
    seen, over = set(), threading.Event()

    def look():
        while not over.is_set():
            there = workdir.steps(tmp_path)
            faults = {step: checksums.damage(workdir.step_folder(tmp_path, step)) for step in there}
            still = set(workdir.steps(tmp_path))  # others were removed meanwhile
            assert not any(faults[step] for step in faults.keys() & still), faults
            assert there or not seen
            seen.update(there)

    reader = threading.Thread(target=look)
    failures = []
    threading.excepthook, before = lambda x: failures.append(x.exc_value), threading.excepthook
    reader.start()
    with Checkpoints(tmp_path, 1) as checkpoints:
        save(checkpoints, *range(1, 13))
    over.set()
    reader.join()
    threading.excepthook = before
    assert not failures and len(seen) > 3


def test_a_save_holds_its_own_step_though_training_goes_on(tmp_path):
    """The next step takes the memory of the state that is being written."""
    step = jax.jit(lambda x: x * 1.5 + 1, donate_argnums=0)
    value = jnp.arange(500_000, dtype=jnp.float32)
    expected, facts = {}, state_of(0)[2]
    with Checkpoints(tmp_path, 5) as checkpoints:
        for number in range(5):
            checkpoints.save(number, State({"w": value}, value), np.zeros(3), facts, None)
            expected[number] = np.array(value)
            for _ in range(20):
                value = step(value)
    shape = {"w": jax.ShapeDtypeStruct(value.shape, value.dtype)}
    for number, content in expected.items():
        restored = restore_params(tmp_path / "checkpoints" / str(number), shape)
        np.testing.assert_array_equal(restored.params["w"], content)


def test_a_step_is_saved_once(saved):
    with Checkpoints(saved, 3) as checkpoints:
        checkpoints.save(30, *state_of(99), None)
    assert_restored(resumed(saved), 30)


def test_a_step_whose_validation_was_stopped_is_saved_again_once_it_is_validated(saved):
    with Checkpoints(saved, 3) as checkpoints:
        checkpoints.save(30, *state_of(31), 0.5)
        checkpoints.save(30, *state_of(32), 0.4)  # it is validated by now
    restored = resumed(saved)
    assert restored.step == 30
    np.testing.assert_array_equal(restored.mean, state_of(31)[1])
    np.testing.assert_array_equal(restored.state.velocity, state_of(31)[0].velocity)
    assert {x.name for x in (saved / "checkpoints").iterdir()} == {"10", "20", "30"}


def test_a_replacement_that_was_killed_half_way_loses_nothing(saved):
    workdir.step_folder(saved, 30).rename(saved / "checkpoints/30.old")
    half_removed = saved / "checkpoints/5.old"
    shutil.copytree(workdir.step_folder(saved, 10), half_removed)
    payload(half_removed).unlink()
    assert_restored(resumed(saved), 30)
    assert workdir.steps(saved) == [10, 20, 30]


def test_other_faults_of_a_save_are_ours(tmp_path, monkeypatch):
    """Not a full disk: it is raised as it is, and what was written is removed."""

    def fails(*_):
        raise RuntimeError("not the user's")

    monkeypatch.setattr(checksums, "seal", fails)
    with pytest.raises(RuntimeError, match="not the user's"), Checkpoints(tmp_path, 1) as saving:
        save(saving, 1)
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}", '{"a": ', "[" * 9999])
def test_a_broken_config_is_refused(saved, content):
    (saved / workdir.CONFIG).write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        workdir.read_config(saved)


def test_names_that_are_no_checkpoint(saved, tmp_path):
    for path, reason in [
        (tmp_path / "nowhere", "no checkpoint in"),
        (saved / "checkpoints/15", "the steps of .* are: 10, 20, 30"),
    ]:
        with pytest.raises(UserError, match=reason):
            workdir.check_restorable(path)
    (saved / workdir.CONFIG).unlink()
    with pytest.raises(UserError, match=r"has no config\.json"):
        workdir.check_restorable(saved)


def test_a_step_that_is_removed_while_it_is_read_is_taken_again(saved, monkeypatch):
    """As an evaluation meets it whose workdir is being trained in."""
    from alexnet_jax.runs import checkpoint

    real, calls = checkpoint._restore, []

    def removed_at_first(directory, step, *rest):
        calls.append(step)
        if len(calls) == 1:
            shutil.rmtree(workdir.step_folder(directory, step))
        return real(directory, step, *rest)

    monkeypatch.setattr(checkpoint, "_restore", removed_at_first)
    assert_restored(restore_params(saved, abstract_params()), 20)
    assert calls == [30, 20]


# --- the record ------------------------------------------------------------------------------


def test_a_record_is_read_back_as_it_was_written(saved):
    assert record.read_record(saved) == state_of(30)[2]
    assert record.read_record(saved / "checkpoints/10") == state_of(10)[2]


def test_the_record_of_converted_weights_has_no_data(tmp_path):
    with Checkpoints(tmp_path, 1) as checkpoints:
        state, mean, _ = state_of(0)
        checkpoints.save(0, state, mean, RunRecord(0.0, "rbg", None), None)
    assert record.read_record(tmp_path) == RunRecord(0.0, "rbg", None)


def test_a_record_that_the_run_replaces_later_is_saved_as_it_was(tmp_path):
    """It is written in the background, while the training goes on."""
    with Checkpoints(tmp_path, 1) as checkpoints:
        state, mean, facts = state_of(1)
        checkpoints.save(1, state, mean, facts, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            facts.seconds = 99.0
    assert record.read_record(tmp_path) == state_of(1)[2]


@pytest.mark.parametrize("content", [None, "{}", '{"version": 1}'])
def test_a_checkpoint_of_another_version_is_refused(saved, content):
    folder = workdir.step_folder(saved, 30)
    (folder / record.FILE).unlink()
    if content:
        (folder / record.FILE).write_text(content)
    (folder / checksums.RECORD).unlink()
    checksums.seal(folder)
    for use in (resumed, record.read_record, lambda x: restore_params(x, abstract_params())):
        with pytest.raises(UserError, match="written by another version of alexnet_jax"):
            use(saved)
