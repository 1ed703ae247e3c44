"""The record of a run, compared with the data and the random numbers that are to be used."""

from dataclasses import replace
from pathlib import Path

import jax
import pytest

from alexnet_jax.data import embedded
from alexnet_jax.errors import UserError
from alexnet_jax.runs.record import (
    DataFacts,
    RunRecord,
    check_evaluable,
    check_resumable,
    data_difference,
    facts_of,
    random_generator,
)

SIZES = {"train": 90, "val": 10, "test": 20}
FACTS = DataFacts("folder", "ab" * 32, ("ant", "bee", "wasp"), 72, SIZES)
OTHERS = {  # a change of the data, and what is said of it
    "name": ({"name": "digits"}, "name is 'digits', not 'folder'"),
    "content": ({"checksum": "cd" * 32}, "its content has changed"),
    "names": ({"class_names": ("ant", "wasp", "bee")}, "class 1 is 'wasp', not 'bee'"),
    "number": ({"class_names": ("ant", "bee")}, "it has 2 classes, not 3"),
    "pixels": ({"image_size": 64}, "image_size is 64, not 72"),
    "split": (
        {"sizes": {"train": 50, "val": 50, "test": 20}},
        "sizes is {'train': 50, 'val': 50, 'test': 20}, not {'train': 90, 'val': 10, 'test': 20}",
    ),
}
FIELDS = ("name", "class_names", "image_size", "sizes", "checksum")


def record_of(facts):
    return RunRecord(1.0, random_generator(), facts)


@pytest.mark.parametrize(("change", "said"), OTHERS.values(), ids=OTHERS)
def test_the_first_difference_is_said(change, said):
    assert data_difference(FACTS, FACTS, *FIELDS) == ""
    assert data_difference(FACTS, replace(FACTS, **change), *FIELDS) == said


@pytest.mark.parametrize(("change", "said"), OTHERS.values(), ids=OTHERS)
def test_a_run_is_resumed_on_its_own_data_only(change, said):
    check_resumable(record_of(FACTS), FACTS)
    with pytest.raises(UserError) as error:
        check_resumable(record_of(FACTS), replace(FACTS, **change))
    assert said in str(error.value) and "train in another --workdir" in str(error.value)


def test_converted_weights_are_trained_on_with_any_data():
    check_resumable(record_of(None), FACTS)


@pytest.mark.parametrize("generator", ["rbg", "unsafe_rbg", "threefry2x32, not partitionable"])
def test_a_run_is_resumed_with_its_own_random_numbers_only(generator):
    with pytest.raises(UserError, match=f"{generator}, now it is threefry2x32; set JAX_DEFAULT"):
        check_resumable(replace(record_of(FACTS), random_generator=generator), FACTS)


def test_the_random_generator_is_named_as_jax_is_set():
    """Each setting draws other numbers from the same seed."""
    drawn = {}
    for name, generator, partitionable in (
        ("threefry2x32", "threefry2x32", True),
        ("threefry2x32, not partitionable", "threefry2x32", False),
        ("rbg", "rbg", True),
    ):
        with (
            jax.default_prng_impl(generator),
            jax.threefry_partitionable(partitionable),
        ):
            assert random_generator() == name
            drawn[name] = tuple(jax.random.bits(jax.random.key(0), (4,)).tolist())
    assert len(set(drawn.values())) == 3


def test_an_offset_that_jax_adds_to_seeds_is_part_of_the_generator():
    """JAX_RANDOM_SEED_OFFSET: the same seed draws other numbers."""
    drawn = jax.random.bits(jax.random.key(0))
    jax.config.update("jax_random_seed_offset", 5)
    try:
        assert random_generator() == "threefry2x32, seed offset 5"
        assert jax.random.bits(jax.random.key(0)) != drawn
        with pytest.raises(UserError, match="now it is threefry2x32, seed offset 5; set JAX_"):
            check_resumable(replace(record_of(FACTS), random_generator="threefry2x32"), FACTS)
    finally:
        jax.config.update("jax_random_seed_offset", 0)


# --- an evaluation -------------------------------------------------------------------------------

# The change of the data, the split, and what follows: refused, said in a line, or nothing.
EVALUATED = [
    (None, "val", ""),
    (None, "test", ""),
    ("names", "test", "refused"),
    ("names", "val", "refused"),
    ("number", "test", "refused"),
    ("pixels", "test", "refused"),
    ("content", "test", "said"),
    ("split", "test", "said"),
    ("content", "val", "refused"),
    ("split", "val", "refused"),
    ("name", "test", ""),
    ("name", "val", ""),
]


@pytest.mark.parametrize(("other", "split", "follows"), EVALUATED)
def test_an_evaluation_is_on_data_that_the_checkpoint_fits(other, split, follows):
    change, said = OTHERS[other] if other else ({}, "")
    facts, path = replace(FACTS, **change), Path("runs/a")
    if follows == "refused":
        with pytest.raises(UserError) as error:
            check_evaluable(path, record_of(FACTS), facts, split)
        assert said in str(error.value) and "checkpoint runs/a" in str(error.value)
        return
    line = check_evaluable(path, record_of(FACTS), facts, split)
    assert line == (f"'folder' is not the data set of runs/a: {said}" if follows else "")


def test_data_of_another_name_need_the_same_classes_only():
    other = replace(FACTS, name="insects", checksum="", image_size=64, sizes={"val": 1})
    assert check_evaluable(Path("a"), record_of(FACTS), other, "val") == ""
    with pytest.raises(UserError, match="class 0 is 'dog', not 'ant'"):
        dogs = replace(other, class_names=("dog", "bee", "wasp"))
        check_evaluable(Path("a"), record_of(FACTS), dogs, "test")


def test_of_converted_weights_nothing_is_known_that_could_be_compared():
    assert check_evaluable(Path("a"), record_of(None), FACTS, "val") == ""


def test_facts_of_a_data_set():
    facts = facts_of(embedded.synthetic(6, 3, 8))
    sizes = {"train": 6, "val": 6, "test": 6}
    assert facts == DataFacts("synthetic", facts.checksum, ("0", "1", "2"), 8, sizes)
    assert len(facts.checksum) == 64
    assert facts_of(embedded.synthetic(7, 3, 8)).checksum != facts.checksum


def test_facts_that_are_not_known_are_not_compared():
    """An exported folder keeps the class names and not the checksum."""
    partial = record_of(replace(FACTS, checksum="", sizes={}))
    check_resumable(partial, FACTS)
    assert check_evaluable(Path("a"), partial, FACTS, "val") == ""
    with pytest.raises(UserError, match="class 1 is 'wasp', not 'bee'"):
        other = replace(FACTS, class_names=("ant", "wasp", "bee"))
        check_evaluable(Path("a"), partial, other, "test")
