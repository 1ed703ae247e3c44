"""The matching of a file's arrays to a net: names, width, classes, and layers that do not fit.

Files from training scripts name the same arrays differently: `module.features.0.weight`
(DataParallel), `features.module.0.weight` (PyTorch's ImageNet trainer), `_orig_mod.…`
(torch.compile), `model.…` (Lightning), or `fc8_flickr/0` (Caffe's fine-tuning renames fc8).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import smallest_crop
from alexnet_jax.nets.spec import Dense, Net
from alexnet_jax.nets.variants import weighted_layers
from alexnet_jax.weights.layouts import Arrays, WeightLayout, expected_shapes, weighted_shapes
from alexnet_jax.weights.readers.arrays import quoted

Shapes = dict[str, tuple[int, ...]]

LARGEST_CROP = 512  # pixels, up to which an error line looks for a crop that fits
WRAPPERS = ("module", "_orig_mod")  # components that PyTorch's wrappers add anywhere in a name


@dataclass(frozen=True)
class Match:
    """The arrays of a file that a net takes.

    Attributes:
      arrays: kernel and bias of every layer that fits, under the layout's names.
      drawn: the other layers by name, which are drawn at random, each with the reason.
      unused: the file's arrays that belong to no layer of the net.
    """

    arrays: Arrays
    drawn: dict[str, str]
    unused: tuple[str, ...]


def renamed(layout: WeightLayout, net: Net, arrays: Arrays) -> tuple[Arrays, list[str]]:
    """Returns a file's arrays under the layout's names, and a line for each kind of renaming.

    Integers that no layer needs, such as a count of batches, are dropped.

    Raises:
      UserError: two arrays get the same name.
    """
    layers = list(weighted_layers(net))
    wanted = [name for layer in layers for name in layout.names(layer)]
    short = {name: _without_wrappers(name) for name in arrays}
    prefix = _prefix(layout.names(layers[0])[0], short.values())
    short = {name: x.removeprefix(prefix) for name, x in short.items()}
    _check_distinct(short)
    found = {
        short[name]: array
        for name, array in arrays.items()
        if short[name] in wanted or array.dtype.kind == "f"
    }
    changed = [f"{quoted(name)} is read as {quoted(x)}" for name, x in short.items() if name != x]
    notes = changed[:1]  # an example of what is done to all
    theirs, ours = _other_classifier(layout, wanted, found), layout.names(layers[-1])
    # A classifier under its usual name is taken; another dense layer is then an unused one.
    if theirs and not any(name in found for name in ours):
        found |= {name: found.pop(other) for name, other in zip(ours, theirs, strict=True)}
        notes.append(f"{quoted(theirs[0])} is read as the classifier {quoted(ours[0])}")
    return found, notes


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _prefix(first: str, names: Iterable[str]) -> str:
    """Returns the prefix that the file gives the name of conv1's kernel, such as "model.".

    Raises:
      UserError: there are several prefixes, because the file holds several nets.
    """
    prefixes = sorted({name.removesuffix(first) for name in names if name.endswith(f".{first}")})
    if len(prefixes) > 1:
        raise UserError(
            f"the file holds several nets: {', '.join(map(quoted, prefixes[:5]))}; save the "
            "state_dict() of one net alone"
        )
    return prefixes[0] if prefixes else ""


def _check_distinct(short: dict[str, str]) -> None:
    originals: dict[str, str] = {}
    for name, x in short.items():
        if x in originals:
            raise UserError(
                f"the file holds both {quoted(originals[x])} and {quoted(name)}, the same array "
                "of two nets; save the state_dict() of one net alone"
            )
        originals[x] = name


def _other_classifier(
    layout: WeightLayout, wanted: list[str], arrays: Arrays
) -> tuple[str, str] | None:
    """Returns the kernel's and bias' names of the one dense layer that the layout does not know.

    Returns None unless there is exactly one such layer.
    """
    kernel, bias = (template.replace("{layer}", "") for template in (layout.kernel, layout.bias))
    pairs = [
        (name, name.removesuffix(kernel) + bias)
        for name, array in arrays.items()
        if name not in wanted and name.endswith(kernel) and array.ndim == 2
    ]
    fitting = [(k, b) for k, b in pairs if b in arrays and arrays[b].shape == arrays[k].shape[:1]]
    return fitting[0] if len(fitting) == 1 else None


def units(layout: WeightLayout, layer: str, arrays: Arrays) -> int | None:
    """Returns the number of a layer's units in the file: the length of its bias or else its kernel.

    Returns None if the file has neither.
    """
    for name in reversed(layout.names(layer)):
        if name in arrays and arrays[name].ndim:
            return len(arrays[name])
    return None


def widths(layout: WeightLayout, published: Net, arrays: Arrays) -> list[float]:
    """Returns the widths (units ÷ published units) of the file's layers, most common first."""
    # The classifier has no published number of units: it has one a class.
    layers = [layer for layer in weighted_layers(published).values() if layer.features]
    found = [(units(layout, layer.name, arrays), layer.features) for layer in layers]
    ratios = Counter(number / features for number, features in found if number)
    return [ratio for ratio, _ in ratios.most_common()]


def _faults(arrays: Arrays, expected: Shapes) -> Iterator[str]:
    """Yields a line for each array that is missing, unknown, or of another shape or dtype."""
    for key, shape in expected.items():
        if key not in arrays:
            yield f"{key} {shape} is missing"
        elif arrays[key].dtype.kind != "f":
            yield f"{key} holds {arrays[key].dtype}, not floats"
        elif arrays[key].shape != shape:
            yield f"{key} is {arrays[key].shape} instead of {shape}"
    for key in arrays:
        if key not in expected:
            yield f"{quoted(key)} {arrays[key].shape} is not known"


def match(layout: WeightLayout, net: Net, arrays: Arrays, file: Path, *, partial: bool) -> Match:
    """Returns the arrays of a file that the net takes, under the layout's names.

    Args:
      layout: of the file.
      net: resolved.
      arrays: of the file, as `renamed` returns them.
      file: path for the error messages.
      partial: layers that do not fit the file are left to be drawn at random.

    Raises:
      UserError: the arrays are not exactly the expected ones (with `partial`: no layer fits), or
        one that is taken holds NaN or infinity.
    """
    found = _fitting(layout, net, arrays)
    if not partial:
        _check_all(layout, net, arrays, file)
    if not found.arrays:
        raise UserError(
            f"{file} has no layer that fits ({'; '.join([*found.drawn.values()][:3])}); check "
            "--layout and --model"
        )
    for key, array in found.arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{key} in {file} holds numbers that are not finite; give another file")
    return found


def _check_all(layout: WeightLayout, net: Net, arrays: Arrays, file: Path) -> None:
    found = list(_faults(arrays, expected_shapes(layout, net)))
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise UserError(
            f"{file} is of another net: {'; '.join(found[:3])}{more}; check --layout and --model, "
            f"or take only the layers that fit with --partial{_crop_hint(layout, net, arrays)}"
        )


def _crop_hint(layout: WeightLayout, net: Net, arrays: Arrays) -> str:
    """Suggests crops at which the first dense layer fits the file.

    Returns "" if the net's own crop fits or none does.
    """
    first = next(shape for shape in weighted_shapes(net) if isinstance(shape.layer, Dense))
    kernel = layout.names(first.layer.name)[0]
    if kernel not in arrays or arrays[kernel].ndim != 2:
        return ""
    inputs = arrays[kernel].shape[1]
    # Rounding makes several crops give the same number of inputs, so all are tried.
    sides = range(smallest_crop(net), LARGEST_CROP)
    crops = [side for side in sides if _fan_in(net, side, first.layer.name) == inputs]
    if not crops or net.crop in crops:
        return ""
    return f"; crops of {crops[0]} to {crops[-1]} pixels fit {kernel}: --config.data.crop_size"


def _fan_in(net: Net, crop: int, layer: str) -> int:
    shapes = weighted_shapes(replace(net, crop=crop))
    return next(shape.fan_in for shape in shapes if shape.layer.name == layer)


def _fitting(layout: WeightLayout, net: Net, arrays: Arrays) -> Match:
    expected, taken, drawn = expected_shapes(layout, net), {}, {}
    for shape in weighted_shapes(net):
        names = layout.names(shape.layer.name)
        found = {name: arrays[name] for name in names if name in arrays}
        misfits = list(_faults(found, {name: expected[name] for name in names}))
        if misfits:
            drawn[shape.layer.name] = misfits[0]
        else:
            taken |= found
    return Match(taken, drawn, tuple(name for name in arrays if name not in expected))
