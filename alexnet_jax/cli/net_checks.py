"""The checks of a net with its learning rates, and of its division over devices and parts."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from alexnet_jax import parallel
from alexnet_jax.errors import UserError
from alexnet_jax.nets.placement import check_layout
from alexnet_jax.nets.spec import BatchNorm
from alexnet_jax.nets.variants import learned_layers, resolve
from alexnet_jax.runs import rules


def check_net(config: ConfigDict) -> None:
    """Raises UserError unless the net can be built and at least one of its layers can learn.

    The settings optim.listed_layers and optim.layer_factors may only name layers with weights.
    """
    names = learned_layers(resolve(config.model, config.data.crop_size))
    listed = {name for name, *_ in config.optim.listed_layers}
    multiplied = {name for name, _ in config.optim.layer_factors}
    for key, used in (("listed_layers", listed), ("layer_factors", multiplied)):
        for name in sorted(used - names.keys()):
            raise UserError(
                f"optim.{key} names {name!r}; layers with weights are {', '.join(names)}"
            )
    if {name for name, factor in config.optim.layer_factors if factor == 0} >= names.keys():
        raise UserError(
            "optim.layer_factors freezes every layer, so that nothing would be learned; leave out "
            f"the layers that are to learn, such as {next(reversed(names))!r}"
        )
    for name in sorted(listed & multiplied):
        raise UserError(
            f"optim.listed_layers and optim.layer_factors both name {name!r}; one layer's rate is "
            "either listed or a multiple of the others', so leave it out of one of them"
        )


def check_division(config: ConfigDict, sizes: Sequence[str]) -> None:
    """Raises UserError unless config.parallel divides the net and these batch sizes.

    Args:
      config: with its number of classes filled in.
      sizes: keys of the batch sizes, such as data.batch_size.
    """
    settings = dict(rules.flat(config))
    net = resolve(config.model, config.data.crop_size)
    layout = parallel.layout_of(config.parallel)
    check_layout(layout, net, {key: settings[key] for key in sizes})


def check_parallel(config: ConfigDict, sizes: Sequence[str]) -> None:
    """Raises UserError unless the net and these batch sizes fit config.parallel and the devices."""
    check_division(config, sizes)
    layout = parallel.layout_of(config.parallel)
    # There is always one device for a single process; asking JAX would initialise the backend.
    if layout.devices > 1 or parallel.is_distributed():
        parallel.check_devices(layout)


def check_parts(config: ConfigDict) -> None:
    """Raises UserError unless each device's share of the batch can be divided into equal parts.

    Batch normalisation needs the moments of the whole batch, and so cannot be computed in parts.
    """
    parts, share = config.train.accumulate_steps, config.data.batch_size // config.parallel.data
    if share % parts:
        raise UserError(
            f"train.accumulate_steps={parts} does not divide the {share} images of a batch that "
            "each device has; use a divisor"
        )
    net = resolve(config.model, config.data.crop_size)
    if parts > 1 and any(isinstance(layer, BatchNorm) for layer in net.layers):
        raise UserError(
            f"train.accumulate_steps={parts}, but batch normalisation needs the whole batch at "
            "once; use 1, more devices, or a net without it"
        )
