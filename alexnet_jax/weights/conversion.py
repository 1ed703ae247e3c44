"""The config and the report of a conversion from another program's weight file."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.errors import UserError
from alexnet_jax.nets.spec import Exchange, Net
from alexnet_jax.nets.variants import resolve, weighted_layers
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.weights import matching
from alexnet_jax.weights.differences import differences
from alexnet_jax.weights.layouts import Arrays, Params, WeightLayout
from alexnet_jax.weights.readers.arrays import quoted
from alexnet_jax.weights.untrained import untrained_warning


def stated_net(layout: WeightLayout, facts: Mapping[str, Any]) -> str:
    """Returns the net that a file says it is of; "" if it does not say.

    Caffe's two nets have the same weights and differ in the order of pooling and normalisation.

    Args:
      layout: of the file.
      facts: of the file, as `readers.read` finds them.
    """
    if facts.get("net") in NETS:
        return facts["net"]
    order = [name for name in layout.nets if _has_order(NETS[name], facts.get("layers", ()))]
    return order[0] if len(order) == 1 else ""


def _has_order(net: Net, names: Sequence[str]) -> bool:
    """True if the layers of these names have the same order in the net."""
    ours = [layer.name for layer in net.layers if not isinstance(layer, Exchange)]
    return [x for x in ours if x in names] == [x for x in names if x in ours]


def fill_config(
    config: ConfigDict,
    overrides: Collection[str],
    layout: WeightLayout,
    model: str,
    arrays: Arrays,
) -> Net:
    """Sets the net and the input of the file in a config, and returns the net of that config.

    Args:
      config: of any run; changed in place.
      overrides: keys such as data.crop_size that stay as they are.
      layout: of the file.
      model: name of the net in NETS.
      arrays: of the file, under the layout's names; they give the width and the classes.

    Raises:
      UserError: the net cannot be built, or the images are smaller than its crop.
    """
    published = NETS[model]
    *_, classifier = weighted_layers(published)
    # A file without a classifier is a start for fine-tuning: the config has the number of classes.
    classes = matching.units(layout, classifier, arrays) or config.model.num_classes
    settings = {
        "data.crop_size": published.crop,
        "data.input_mean": layout.mean,
        "data.input_scale": layout.scale,
        "data.augment.colour": "none",  # the file holds no colour components
        "model.num_classes": classes,
    }
    config.update_from_flattened_dict({k: v for k, v in settings.items() if k not in overrides})
    config.model.name = model
    if config.model.num_classes is None:
        raise UserError("the file has no classifier; give --config.model.num_classes")
    # Layers can disagree, where a script has changed one of them. The commonest width that can
    # be built is taken, and `match` names the layers that do not fit it.
    if "model.width" not in overrides:
        config.model.width = fitting_width(config, matching.widths(layout, published, arrays))
    if config.data.image_size < config.data.crop_size:
        raise UserError(
            f"data.image_size={config.data.image_size} is smaller than the net's crop of "
            f"{config.data.crop_size}; give another --config or --config.data.image_size"
        )
    return resolve(config.model, config.data.crop_size)


def fitting_width(config: ConfigDict, widths: Sequence[float]) -> float:
    """Returns the first of the widths at which the net can be built; 1 if there is none."""
    for width in widths:
        try:
            resolve(ConfigDict({**config.model, "width": width}), config.data.crop_size)
            return width
        except UserError:
            continue
    return 1.0  # `match` then names the layers that do not fit


def report(
    config: ConfigDict,
    layout: WeightLayout,
    stated: str,
    facts: Mapping[str, Any],
    found: matching.Match,
    params: Params,
) -> Iterator[str]:
    """Yields lines for the user on a conversion.

    They say how pixels become the net's input, in which settings the net departs from the file's
    own, which layers are drawn at random, which arrays are unused, and if weights look untrained.

    Args:
      config: as `fill_config` leaves it.
      layout: of the file.
      stated: the net that the file says it is of, as `stated_net` returns it.
      facts: of the file, as `readers.read` finds them.
      found: arrays that the net takes from the file.
      params: made of these arrays.
    """
    data, native = config.data, stated or layout.nets[0]
    mean, scale = (
        ", ".join(f"{x:.6g}" for x in values) for values in (data.input_mean, data.input_scale)
    )
    yield (
        f"input: {data.crop_size}×{data.crop_size} pixels, RGB of 0–255, less ({mean}), "
        f"times ({scale}); change it with --config.data.input_mean and input_scale"
    )
    if "input" in facts:
        # As Python writes it: a terminal would obey control characters in it.
        yield f"the file says of its input: {facts['input']!r}"
    ours, theirs = NETS[config.model.name], NETS[native]
    # A net with other layers is not compared: nearly everything would be a difference.
    of_one_kind = weighted_layers(theirs).keys() <= weighted_layers(ours).keys()
    same = (stated,) if stated else layout.nets
    if config.model.name not in same and of_one_kind:
        departures = "; ".join(differences(ours, theirs))
        yield f"note: {config.model.name} is not {native}, it computes differently: {departures}"
    if found.drawn:
        reasons = "; ".join(f"{layer} ({why})" for layer, why in found.drawn.items())
        yield f"taken from the file: {', '.join(params)}; drawn at random: {reasons}"
    if found.unused:
        yield f"not used: {', '.join(map(quoted, found.unused[:10]))}"
    warning = untrained_warning(params)
    if warning:
        yield warning
