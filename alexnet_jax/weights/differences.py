"""The differences in what two nets compute from the same weights."""

from dataclasses import fields

from alexnet_jax.nets.spec import Exchange, Layer, Net

# Fields that only decide how a layer starts or learns, or that the shapes of its weights fix.
NOT_COMPUTED = ("name", "features", "std", "bias", "rate", "weight_decay")


def differences(net: Net, other: Net) -> list[str]:
    """Returns the settings in which `net` departs from `other`, each as a phrase for the user.

    Layers are compared by name; layers with the same departures share an entry.
    """
    ours, theirs = _named(net), _named(other)
    common = [name for name in ours if name in theirs]
    grouped: dict[str, list[str]] = {}
    for name in common:
        grouped.setdefault(", ".join(_changes(ours[name], theirs[name])), []).append(name)
    # Layers without departures share the empty text.
    found = [f"{', '.join(names)}: {text}" for text, names in grouped.items() if text]
    if net.crop != other.crop:
        found.insert(0, f"crop={net.crop} instead of {other.crop}")
    for word, names in (("without", theirs.keys() - ours), ("with", ours.keys() - theirs)):
        if names:
            found.append(f"{word} {', '.join(sorted(names))}")
    if common != [name for name in theirs if name in ours]:
        found.append(f"in the order {', '.join(common)}")
    return found


def _named(net: Net) -> dict[str, Layer]:
    return {layer.name: layer for layer in net.layers if not isinstance(layer, Exchange)}


def _changes(layer: Layer, other: Layer) -> list[str]:
    if type(layer) is not type(other):
        return [f"{type(layer).__name__} instead of {type(other).__name__}"]
    pairs = (
        (x.name, getattr(layer, x.name), getattr(other, x.name))
        for x in fields(layer)
        if x.name not in NOT_COMPUTED
    )
    return [
        f"{name}={ours!r} instead of {theirs!r}" for name, ours, theirs in pairs if ours != theirs
    ]
