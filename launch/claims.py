"""The runs behind results/: a claim is a name and the runs that test it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alexnet_jax.errors import UserError
from alexnet_jax.figures.activations import fastest, read_activation_runs

TINY, CIFAR = "configs/tiny_imagenet.py", "configs/cifar10.py"
Settings = Mapping[str, object]

# Pictures as they are, in the net of half the width: 75 to 90 seconds an epoch on two CPU cores.
SMALL: Settings = {
    "data.image_size": 64,
    "data.crop_size": 56,
    "model.width": 0.5,
}


@dataclass(frozen=True)
class Run:
    """One training, and the evaluations after it.

    Attributes:
      claim, name: its record is the folder results/CLAIM/NAME.
      config: config file.
      store: name of a store; "" for data that need none.
      settings: overrides by config key.
      views: of the evaluations on the test split.
      starts_from: name of the claim's run whose parameters it starts from; "" for random ones.
      kernels: the record keeps the first layer's kernels.
    """

    claim: str
    name: str
    config: str
    store: str
    settings: Settings = field(default_factory=dict)
    views: tuple[int, ...] = ()
    starts_from: str = ""
    kernels: bool = False


@dataclass(frozen=True)
class Ensemble:
    """An evaluation of several runs' averaged probabilities.

    Attributes:
      claim, name: its record is the folder results/CLAIM/NAME.
      members: names of the claim's runs.
      views: of the evaluations on the test split.
    """

    claim: str
    name: str
    members: tuple[str, ...]
    views: tuple[int, ...]


# -- The digits: the quickstart --


def digits() -> Iterator[Run]:
    """Yields the quickstart's run with three seeds."""
    for seed in range(3):
        yield Run("digits", f"seed{seed}", "configs/base.py", "", {"seed": seed}, views=(1,))


# -- The digits: modern recipes --

RECIPES = (
    "linear_rate",
    "cosine_rate",
    "label_smoothing",
    "ema",
    "large_batch",
    "batch_norm",
    "one_column",
)


def recipes() -> Iterator[Run]:
    """Yields the run of each config in configs/modern with three seeds."""
    for name in RECIPES:
        for seed in range(3):
            config, settings = f"configs/modern/{name}.py", {"seed": seed}
            yield Run("recipes", f"{name}_seed{seed}", config, "", settings, views=(1,))


# -- The plateau at ln(classes) --

CONV345 = ("conv3", "conv4", "conv5")
STDS, BIASES = (0.01, 0.03), (1.0, 0.1, 0.0)
PLATEAU: Settings = {
    **SMALL,
    "data.augment.colour": "none",
    "model.name": "alexnet",
    "optim.schedule": "constant",
    "train.steps": 3000,
    "train.log_every_steps": 10,
    "eval.every_epochs": 1000,
}
FULL_SIZE: Settings = {
    "train.steps": 600,
    "data.image_size": 256,
    "data.crop_size": 224,
    "model.width": 1.0,
}


def initial(std: float, bias: float) -> tuple[tuple[str, float, float], ...]:
    """Returns model.initial with this std in conv3 to conv5 and this bias where the paper has 1."""
    layers = [("conv2", 0.01, bias)]
    layers += [(name, std, 0.0 if name == "conv3" else bias) for name in CONV345]
    return (*layers, ("fc6", 0.01, bias), ("fc7", 0.01, bias))


def printed() -> Iterator[Run]:
    """Yields two seeds of the net as printed on 200 classes, twice as long as the others."""
    longer = {"train.steps": 6000, "train.log_every_steps": 100}
    for seed in range(2):
        changed = {"model.initial": initial(0.01, 1.0), "model.num_classes": 200, "seed": seed}
        settings = {**PLATEAU, **longer, **changed}
        yield Run("printed", f"200_classes_seed{seed}", TINY, "tiny64", settings)


def plateau() -> Iterator[Run]:
    """Yields the runs that show which initial weights keep the loss at ln(classes).

    They train the paper's net at full size with the printed and the released stds, then at half its
    width on Tiny-ImageNet with other initial stds and biases, on 10, 50 and 200 classes.
    """
    for std, bias in ((0.03, 1.0), (0.01, 1.0), (0.01, 0.1)):
        settings = {**PLATEAU, **FULL_SIZE, "model.initial": initial(std, bias)}
        yield Run("plateau", f"full_size_std_{std:g}_bias_{bias:g}", TINY, "tiny256", settings)
    for classes in (200, 50, 10):
        store = "tiny64" if classes == 200 else f"tiny64-{classes}"
        for std in STDS:
            for bias in BIASES:
                changed = {"model.initial": initial(std, bias), "model.num_classes": classes}
                if classes == 10:
                    changed["train.steps"] = 1000
                name = f"{classes}_classes_std_{std:g}_bias_{bias:g}"
                yield Run("plateau", name, TINY, store, {**PLATEAU, **changed})


# -- Tiny-ImageNet --

LONG: Settings = {"checkpoint.every_steps": 10_000}


def tiny_imagenet() -> Iterator[Run | Ensemble]:
    """Yields three seeds of the net, their ensemble, one tower, and a smaller input."""
    names = tuple(f"seed{seed}" for seed in range(3))
    for seed, name in enumerate(names):
        settings = {**LONG, "seed": seed}
        yield Run("tiny_imagenet", name, TINY, "tiny128", settings, (1, 10), kernels=True)
    settings = {**LONG, "model.towers": 1}
    yield Run("tiny_imagenet", "one_tower", TINY, "tiny128", settings, (1, 10), kernels=True)
    settings = {**LONG, "data.image_size": 64, "data.crop_size": 56}
    yield Run("tiny_imagenet", "pixels_56", TINY, "tiny64", settings)
    yield Ensemble("tiny_imagenet", "ensemble", names, views=(1, 10))


# -- Ablations of Sections 3 and 4, scaling, and the paper's 1 CNN* --

# 14 epochs on all 100,000 pictures, as nothing is chosen by them.
SHORT: Settings = {
    **SMALL,
    "data.val_fraction": 0.0,
    "optim.learning_rate": 0.02,
    "optim.listed": ((10, 2e-3), (13, 2e-4)),
    "train.epochs": 14.0,
    "checkpoint.every_steps": 100_000,
}
ABLATIONS: Mapping[str, Settings] = {
    "reference": {},
    "no_lrn": {"model.lrn": False},
    "pool_2": {"model.pool_size": 2},
    "no_dropout": {"model.dropout": 0.0},
    # At the rate of the others one of two seeds never leaves chance.
    "no_dropout_rate_0.01": {
        "model.dropout": 0.0,
        "optim.learning_rate": 0.01,
        "optim.listed": ((10, 1e-3), (13, 1e-4)),
    },
    "no_crop_and_flip": {"data.augment.crop": False, "data.augment.flip": False},
    "no_colour_noise": {"data.augment.colour": "none"},
    "one_tower_of_half_the_width": {"model.towers": 1, "model.width": 0.25},
    "one_tower": {"model.towers": 1},
    "no_exchange_before_conv3": {"model.exchange": ("fc6", "fc7", "fc8")},
    "exchange_before_fc8_only": {"model.exchange": ("fc8",)},
    "without_conv3": {"model.without": ("conv3",)},
    "without_conv4": {"model.without": ("conv4",)},
    "without_conv5": {"model.without": ("conv5",)},
    "without_fc7": {"model.without": ("fc7", "drop7")},
    "tanh": {"model.activation": "tanh"},
}
PICTURES = 500  # of each class of Tiny-ImageNet


def ablations() -> Iterator[Run]:
    """Yields a small two-tower net and the same with one thing changed, two seeds each."""
    for seed in range(2):
        for name, changed in ABLATIONS.items():
            settings = {**SHORT, **changed, "seed": seed}
            yield Run("ablations", f"{name}_seed{seed}", TINY, "tiny64", settings, views=(1,))


def towers() -> Iterator[Run | Ensemble]:
    """Yields the ablations' net with one tower, whose kernels are compared with those of two.

    Three seeds together show what ten views and several nets give.
    """
    names = tuple(f"one_tower_seed{seed}" for seed in range(3))
    for seed, name in enumerate(names):
        settings = {**SHORT, **ABLATIONS["one_tower"], "seed": seed}
        yield Run("towers", name, TINY, "tiny64", settings, views=(1, 10), kernels=True)
    yield Ensemble("towers", "ensemble", names, views=(1, 10))


def one_gpu() -> Iterator[Run]:
    """Yields the paper's one-GPU net and the two-tower net beside it, two seeds each.

    The one-GPU net has half the kernels in conv1 to conv4, and all of them in conv5 and the dense
    layers, so that both nets have about as many parameters (paper §3.2).
    """
    for seed in range(2):
        for name, net in (("two_towers", "alexnet"), ("one_gpu_net", "alexnet_half")):
            # The printed std of conv3 to conv5 would keep the loss at chance for long.
            changed = {"model.name": net, "model.initial": initial(0.03, 1.0), "seed": seed}
            yield Run("one_gpu", f"{name}_seed{seed}", TINY, "tiny64", {**SHORT, **changed}, (1,))


def stretched(listed: Iterable[tuple[float, float]], factor: float) -> tuple[object, ...]:
    """Returns a listed schedule with its epochs multiplied by this factor."""
    return tuple((epoch * factor, rate) for epoch, rate in listed)


def scaling() -> Iterator[Run]:
    """Yields the small net at other widths, and with fewer pictures for as many steps."""
    for seed in range(2):
        for width in (0.125, 0.25, 1.0):
            settings = {**SHORT, "model.width": width, "seed": seed}
            yield Run("scaling", f"width_{width:g}_seed{seed}", TINY, "tiny64", settings, (1,))
        for pictures in (50, 125, 250):
            factor = PICTURES / pictures
            longer = {
                "optim.listed": stretched(SHORT["optim.listed"], factor),
                "train.epochs": SHORT["train.epochs"] * factor,
            }
            settings = {**SHORT, **longer, "seed": seed}
            name, store = f"pictures_{pictures}_seed{seed}", f"tiny64-{pictures}-a-class"
            yield Run("scaling", name, TINY, store, settings, (1,))


def one_cnn_star() -> Iterator[Run]:
    """Yields four runs a seed: pre-training, fine-tuning, training from scratch, and a control.

    The paper's 1 CNN* was trained on another set of classes first, then fine-tuned (paper §6). Here
    a net is trained on 100 classes. From its parameters one net is trained on the other 100
    classes, and one, the control, longer on the same: it shows what the longer training gains.
    """
    half = {**SHORT, "model.num_classes": 100, "train.epochs": 28.0}
    scratch = {**half, "optim.listed": ((20, 2e-3), (26, 2e-4))}
    tuned = {**half, "optim.learning_rate": 0.01, "optim.listed": ((20, 1e-3), (26, 1e-4))}
    for seed in range(2):
        first, seeded = f"first_half_seed{seed}", {"seed": seed}
        yield Run("one_cnn_star", first, TINY, "tiny64-first", {**scratch, **seeded}, (1,))
        name = f"from_scratch_seed{seed}"
        yield Run("one_cnn_star", name, TINY, "tiny64-second", {**scratch, **seeded}, (1,))
        settings = {**tuned, **seeded}
        for name, store in (("fine_tuned", "tiny64-second"), ("longer", "tiny64-first")):
            name = f"{name}_seed{seed}"
            yield Run("one_cnn_star", name, TINY, store, settings, (1,), starts_from=first)


# -- CIFAR-10 --

# All 50,000 training pictures: the rates are the published ones, and nothing is chosen.
ALL: Settings = {
    "data.val_fraction": 0.0,
    "eval.batch_size": 1000,
    "train.log_every_steps": 200,
    "checkpoint.every_steps": 100_000,
}
CROPS: Settings = {
    **ALL,
    "data.crop_size": 24,
    "data.augment.crop": True,
    "data.augment.flip": True,
}
# The rates by epoch that the author of the 11 % net describes: about 350 epochs on four fifths of
# the images, about 150 on all of them, then two times ten at a tenth. All images are used here.
FULL_LENGTH: Settings = {"optim.listed": ((500, 1e-4), (510, 1e-5)), "train.epochs": 520.0}
# The cuda-convnet nets on crops of 24 pixels, by the name of their records.
CROPPED: Mapping[str, Settings] = {
    "11pct": {"model.name": "cuda_convnet_11pct"},
    "11pct_no_lrn": {"model.name": "cuda_convnet_11pct", "model.lrn": False},
    "13pct": {"model.name": "cuda_convnet_13pct"},
}


def cifar10() -> Iterator[Run]:
    """Yields cuda-convnet's nets at their full length: 11 % with and without LRN, 13 % and 18 %."""
    for seed in range(2):
        for name, net in CROPPED.items():
            settings = {**CROPS, **FULL_LENGTH, **net, "seed": seed}
            yield Run("cifar10", f"{name}_seed{seed}", CIFAR, "cifar10", settings, views=(1, 10))
        settings = {**ALL, "seed": seed}
        yield Run("cifar10", f"18pct_seed{seed}", CIFAR, "cifar10", settings, views=(1,))


# -- Figure 1: epochs to 25 % training error, ReLU against tanh --

ACTIVATIONS = ("relu", "tanh")
# Tried, by initial weights. With the published ones 0.03 is too large for either activation.
RATES = {
    "published": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "fan_in": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
}
FIGURE1: Settings = {
    **ALL,
    "model.name": "four_layer",
    "optim.weight_decay": 0.0,
    "optim.schedule": "constant",
    "train.stop_at_train_error": 0.25,
    "train.epochs": 60.0,
}
# √(1 ÷ fan-in) in every layer, and inputs of about unit variance.
INITIALS: Mapping[str, Settings] = {
    "published": {},
    "fan_in": {
        "data.input_scale": (1 / 64, 1 / 64, 1 / 64),
        "model.initial": (
            ("conv1", 75**-0.5, 0.0),
            ("conv2", 800**-0.5, 0.0),
            ("conv3", 800**-0.5, 0.0),
            ("fc10", 1024**-0.5, 0.0),
        ),
    },
}


def figure1_rates() -> Iterator[Run]:
    """Yields one seed of each activation and initialisation at each of the rates."""
    for name, start in INITIALS.items():
        for rate in RATES[name]:
            for activation in ACTIVATIONS:
                changed = {"model.activation": activation, "optim.learning_rate": rate, "seed": 100}
                settings = {**FIGURE1, **start, **changed, "train.epochs": 30.0}
                yield Run(
                    "figure1_rates", f"{activation}_{name}_{rate:g}", CIFAR, "cifar10", settings
                )


def fastest_rate(records: Path, activation: str, name: str) -> float:
    """Returns the rate with which a net reached the lowest error in the fewest epochs.

    A run that diverged does not count.

    Raises:
      UserError: not every rate has been tried, or every one diverged.
    """
    folder = records / "figure1_rates"
    for rate in RATES[name]:
        if not (folder / f"{activation}_{name}_{rate:g}" / "run.json").is_file():
            raise UserError(f"{folder} lacks rate {rate:g}; first run --claim=figure1_rates")
    best = fastest(read_activation_runs(folder))
    if (name, activation) not in best:
        raise UserError(
            f"{folder}: {activation} ({name}) diverged at every rate; add a smaller one"
        )
    return best[name, activation].rate


def figure1(records: Path) -> Iterator[Run]:
    """Yields three seeds of each activation and initialisation at its own fastest rate."""
    for seed in range(3):
        for name, start in INITIALS.items():
            for activation in ACTIVATIONS:
                rate = fastest_rate(records, activation, name)
                changed = {"model.activation": activation, "optim.learning_rate": rate}
                settings = {**FIGURE1, **start, **changed, "seed": seed}
                yield Run("figure1", f"{activation}_{name}_seed{seed}", CIFAR, "cifar10", settings)


CLAIMS: dict[str, Callable[..., Iterator[Run | Ensemble]]] = {
    "digits": digits,
    "recipes": recipes,
    "cifar10": cifar10,
    "plateau": plateau,
    "printed": printed,
    "tiny_imagenet": tiny_imagenet,
    "figure1_rates": figure1_rates,
    "figure1": figure1,
    "ablations": ablations,
    "towers": towers,
    "one_gpu": one_gpu,
    "one_cnn_star": one_cnn_star,
    "scaling": scaling,
}


def runs(claim: str, records: Path) -> list[Run | Ensemble]:
    """Returns a claim's runs; those of figure1 depend on the records of figure1_rates."""
    make = CLAIMS[claim]
    return list(make(records) if claim == "figure1" else make())
