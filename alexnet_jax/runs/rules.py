"""The rules of single settings, checked before anything is compiled or written."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.errors import UserError
from alexnet_jax.nets.zoo import NETS

LARGEST = 2**31 - 1  # of an integer: steps and indices are int32 on the devices
HIGHEST = 3.4e38  # of a real number: float32 holds no more
Rule = tuple[Callable[[Any], bool], str]  # a test of a value, and a phrase for the values that pass
AT_LEAST_1: Rule = (lambda x: x >= 1, "at least 1")
NOT_NEGATIVE = (lambda x: x >= 0, "0 or more")
POSITIVE = (lambda x: x > 0, "more than 0")
FRACTION = (lambda x: 0 <= x < 1, "at least 0 and less than 1")
THREE = (
    lambda x: len(x) == 3 and all(map(_is_number, x)),
    "three numbers, such as (1.0, 1.0, 1.0)",
)


def _one_of(*names: Any) -> Rule:
    return (lambda x: x in names, "one of " + ", ".join(repr(name) for name in names))


def _is_number(x: Any) -> bool:
    # `check` refuses inf and NaN as single values, but does not look into tuples.
    return isinstance(x, int | float) and abs(x) <= HIGHEST  # which NaN is not


def _is_change(row: Any, head: tuple[type, ...]) -> bool:
    """True for a tuple of values of these types, then an epoch and a value from 0 up."""
    return (
        isinstance(row, tuple)
        and len(row) == len(head) + 2
        and all(map(isinstance, row, head))
        and all(_is_number(x) and x >= 0 for x in row[-2:])
    )


def _changes(form: str, *head: type) -> Rule:
    """Returns the rule for a tuple of tuples of this form, with rising epochs for each layer."""

    def fits(rows: Any) -> bool:
        if not isinstance(rows, tuple) or not all(_is_change(row, head) for row in rows):
            return False
        # By layer only: the sort is stable, so each layer's epochs stay in the order given.
        ordered = sorted(rows, key=lambda row: row[:-2])
        return all(a[-2] < b[-2] for a, b in itertools.pairwise(ordered) if a[:-2] == b[:-2])

    return fits, f"a tuple of {form} tuples, epochs rising"


def _are_initial(rows: Any) -> bool:
    """True for a tuple of (layer, std ≥ 0, bias) tuples."""
    return isinstance(rows, tuple) and all(
        isinstance(row, tuple)
        and len(row) == 3
        and isinstance(row[0], str)
        and all(map(_is_number, row[1:]))
        and row[1] >= 0
        for row in rows
    )


def _are_factors(rows: Any) -> bool:
    """True for a tuple of (layer, number ≥ 0) tuples that names each layer once."""
    return (
        isinstance(rows, tuple)
        and all(isinstance(row, tuple) and len(row) == 2 for row in rows)
        and all(isinstance(name, str) and _is_number(x) and x >= 0 for name, x in rows)
        and len(dict(rows)) == len(rows)
    )


LISTED = _changes("(epoch, value)")
RULES: dict[str, Rule] = {
    # jax keeps 32 bits of a seed, so larger ones would repeat the runs of smaller ones.
    "seed": (lambda x: 0 <= x < 2**32, "from 0 to 4294967295"),
    "data.image_size": AT_LEAST_1,
    "data.crop_size": AT_LEAST_1,
    "data.batch_size": AT_LEAST_1,
    "data.val_fraction": FRACTION,
    "data.on_bad_record": _one_of("fail", "skip"),
    "data.device_megabytes": NOT_NEGATIVE,
    "data.synthetic_images": AT_LEAST_1,
    "data.synthetic_classes": (lambda x: 2 <= x <= 10**6, "from 2 to 1000000"),
    "data.input_mean": THREE,
    # A scale of 0 in every colour would make every input zero.
    "data.input_scale": (lambda x: THREE[0](x) and any(x), f"{THREE[1]}, not all 0"),
    "data.augment.colour": _one_of("none", "paper", "code"),
    "data.augment.colour_scale": NOT_NEGATIVE,
    "data.augment.colour_listed": LISTED,
    "model.name": _one_of(*NETS),
    # XLA aborts the process for a net that is wide beyond any memory.
    "model.width": (lambda x: 0 < x <= 100, "more than 0 and at most 100"),
    "model.num_classes": AT_LEAST_1,
    "model.towers": AT_LEAST_1,
    "model.activation": _one_of("relu", "tanh"),
    "model.pool_size": AT_LEAST_1,
    "model.dropout": FRACTION,
    "model.initial": (_are_initial, "a tuple of (layer, std, bias) tuples, std 0 or more"),
    "optim.name": _one_of("paper", "sgd", "lars"),
    "optim.learning_rate": NOT_NEGATIVE,
    "optim.bias_multiplier": NOT_NEGATIVE,
    "optim.momentum": FRACTION,
    "optim.weight_decay": NOT_NEGATIVE,
    "optim.trust_coefficient": POSITIVE,
    "optim.warmup_epochs": NOT_NEGATIVE,
    "optim.schedule": _one_of("plateau", "listed", "dexp", "constant", "linear", "cosine"),
    "optim.plateau_factor": (lambda x: 0 < x < 1, "between 0 and 1"),
    "optim.plateau_patience": AT_LEAST_1,
    "optim.plateau_drops": NOT_NEGATIVE,
    "optim.listed": LISTED,
    "optim.listed_layers": _changes("(layer, epoch, rate)", str),
    "optim.layer_factors": (
        _are_factors,
        "a tuple of (layer, factor) tuples, each layer once, factors 0 or more",
    ),
    "optim.dexp_target": POSITIVE,
    # Its formula divides by steps − 1, and the compiled step compares with each of the steps.
    "optim.dexp_steps": (lambda x: 2 <= x <= 1000, "from 2 to 1000"),
    "train.epochs": NOT_NEGATIVE,
    "train.steps": NOT_NEGATIVE,
    "train.accumulate_steps": AT_LEAST_1,
    "train.compute_dtype": _one_of("float32", "bfloat16"),
    "train.label_smoothing": FRACTION,
    "train.ema_decay": FRACTION,
    "train.log_every_steps": AT_LEAST_1,
    "train.stop_at_train_error": FRACTION,
    "parallel.data": AT_LEAST_1,
    "parallel.tower": AT_LEAST_1,
    "parallel.scheme": _one_of("plain", "hybrid"),
    "eval.views": _one_of(1, 10),  # the centre, or the paper's ten (§4.1)
    "eval.every_epochs": AT_LEAST_1,
    "eval.split": _one_of("", "test", "val"),
    "eval.batch_size": AT_LEAST_1,
    "checkpoint.every_steps": NOT_NEGATIVE,
    "checkpoint.keep": AT_LEAST_1,
    "checkpoint.on_full_disk": _one_of("stop", "continue"),
}

# (a setting, its values): the settings that are read only if the first one has one of the values.
READ_WITH = {
    ("optim.schedule", ("listed",)): ("optim.listed",),
    ("optim.schedule", ("plateau",)): (
        "optim.plateau_factor",
        "optim.plateau_patience",
        "optim.plateau_drops",
    ),
    ("optim.schedule", ("dexp",)): ("optim.dexp_target", "optim.dexp_steps"),
    ("optim.name", ("lars",)): ("optim.trust_coefficient",),
    ("data.augment.colour", ("paper", "code")): (
        "data.augment.colour_scale",
        "data.augment.colour_listed",
    ),
    ("data.name", ("synthetic",)): ("data.synthetic_images", "data.synthetic_classes"),
    ("train.steps", (0,)): ("train.epochs",),
}


def flat(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every setting as (`data.batch_size`, value)."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def check(config: ConfigDict) -> None:
    """Raises UserError for the first value that no run can have; the message says which it may."""
    for key, value in flat(config):
        if value is None or key not in RULES:  # unset, or checked elsewhere: names, switches
            continue
        fits, may_be = RULES[key]
        # Before the rule, which would accept inf, and whose words do not fit NaN.
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}={value!r} has to be a finite number, {may_be}")
        if not fits(value):
            raise UserError(f"{key}={value!r} has to be {may_be}")
        limit = HIGHEST if isinstance(value, float) else LARGEST
        if isinstance(value, int | float) and key != "seed" and value > limit:
            raise UserError(f"{key}={value!r} has to be {may_be}, and no more than {limit}")
    if not config.train.steps and not config.train.epochs:
        raise UserError("train.epochs=0 and train.steps=0 train nothing; set one of them")


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Returns the settings in which two configs differ, as `key: old → new`."""
    before, after = dict(flat(old)), dict(flat(new))
    return [
        f"{key}: {before.get(key, 'not there')!r} → {after.get(key, 'not there')!r}"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]


def unread(config: ConfigDict) -> dict[str, str]:
    """Returns each setting that nothing reads in this config, with the reason as `key=value`."""
    settings = dict(flat(config))
    return {
        key: f"{decides}={settings[decides]!r}"
        for (decides, values), keys in READ_WITH.items()
        for key in keys
        if settings[decides] not in values
    }
