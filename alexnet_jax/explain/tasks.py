"""The two sheets of explain: pictures with their explanations, and pictures that excite units."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.errors import UserError
from alexnet_jax.explain import attribution, drawings
from alexnet_jax.explain.request import Request
from alexnet_jax.predict.loaded_net import LoadedNet, load_net
from alexnet_jax.predict.pictures import Picture, read, text_of
from alexnet_jax.predict.sheets import Captioned, rows_sheet
from alexnet_jax.preprocess import VIEWS, centre_crop, view

MOST_ROWS = 8  # pictures
UNIT_COLUMNS = 8
# Smallest loss of probability that occlusion may show in its full colour. Scaled to its own
# maximum, a loss of nothing would look like a loss of everything.
LEAST_LOSS = 0.1
STEPS, RATE, DECAY = 200, 2.0, 0.02  # of the ascent; the rate in grey levels
TITLES = {
    "saliency": "saliency",
    "occlusion": "occlusion",
    "gradcam": "Grad-CAM, {layer}",
    "deconv": "deconvolution, {layer}",
}

Draw = Callable[[np.ndarray, np.ndarray], np.ndarray]  # the picture and its map → what is shown


def explain_pictures(request: Request) -> None:
    """Draws each picture, its likeliest class, and a column for each method."""
    net = load_net(request.checkpoint, request.class_names)
    pictures = _read(request, net.side)
    pixels = np.stack([picture.pixels for picture in pictures])
    images = view(pixels, net.stats, net.model.net.crop, *VIEWS[1][0])
    logits = jax.jit(net.model.apply)({"params": net.params}, images)[0]
    classes, probabilities = logits.argmax(axis=-1), jax.nn.softmax(logits).max(axis=-1)
    columns = [_column(request, net, method, images, classes) for method in request.methods]
    rows = []
    for index, picture in enumerate(pictures):
        seen = centre_crop(picture.pixels, net.model.net.crop)
        name = net.class_names[int(classes[index])]
        row = [Captioned(seen, f"{name}, {100 * float(probabilities[index]):.0f} %")]
        for method, (maps, draw) in zip(request.methods, columns, strict=True):
            caption = loss_text(maps[index].max()) if method == "occlusion" else ""
            row.append(Captioned(draw(seen, maps[index]), caption))
        rows.append(row)
    titles = [TITLES[method].format(layer=request.layer) for method in request.methods]
    rows_sheet(request.sheet, rows, ["picture", *titles])


def loss_text(loss: float) -> str:
    """Returns the largest loss of probability, from 0 to 1, in percentage points."""
    points = f"{100 * loss:.0f}"
    return f"at most {points} point{'s' if points != '1' else ''} lost"


def _read(request: Request, side: int) -> list[Picture]:
    """Reads the first pictures; says which cannot be read, and raises UserError if all cannot."""
    if len(request.images) > MOST_ROWS:
        print(f"the first {MOST_ROWS} of {len(request.images)} pictures are drawn")
    found = [read(path, side) for path in request.images[:MOST_ROWS]]
    good = [picture for picture in found if not picture.error]
    faults = [f"{text_of(picture.path)} {picture.error}" for picture in found if picture.error]
    if not good:
        raise UserError(f"none of the pictures can be read; {faults[0]}; give other files")
    for fault in faults:
        print(f"left out: {fault}")
    return good


def _column(
    request: Request, net: LoadedNet, method: str, images: jax.Array, classes: jax.Array
) -> tuple[np.ndarray, Draw]:
    """Returns one method's map for each picture, [N, …], and how it is drawn."""
    model, crop = net.model, net.model.net.crop

    def run(function: Callable[..., jax.Array], *inputs: Any, **how: Any) -> np.ndarray:
        return np.asarray(jax.jit(partial(function, model, **how))(net.params, images, *inputs))

    match method:
        case "saliency":
            return run(attribution.saliency, classes), lambda _, found: drawings.heat(found)
        case "occlusion":
            size, stride = -(-crop // 4), -(-crop // 12)  # 9×9 places, each a pass of the net
            drops = run(attribution.occlusion, classes, size=size, stride=stride)
            centres = np.arange(drops.shape[-1]) * stride + size / 2
            return drops, partial(_over, centres=centres, least=LEAST_LOSS)
        case "gradcam":
            maps = run(attribution.grad_cam, classes, layer=request.layer)
            centres = (np.arange(maps.shape[-1]) + 0.5) * crop / maps.shape[-1]
            return maps, partial(_over, centres=centres)
        case "deconv":
            patterns = run(attribution.deconvolve, layer=request.layer)
            return patterns, lambda _, found: drawings.pattern(found)


def _over(
    picture: np.ndarray, values: np.ndarray, centres: np.ndarray, least: float = 0.0
) -> np.ndarray:
    return drawings.overlay(picture, drawings.enlarge(values, centres, len(picture)), least)


def draw_units(request: Request) -> None:
    """Draws a picture that excites each unit; classes have their names."""
    net = load_net(request.checkpoint, request.class_names)
    ascend = partial(
        attribution.preferred_pictures,
        net.model,
        layer=request.layer,
        steps=STEPS,
        rate=RATE * float(jnp.mean(net.stats.scale)),  # grey levels → the net's input
        decay=DECAY,
        key=jax.random.key(0),  # the same sheet each time
    )
    found = np.asarray(jax.jit(ascend)(net.params, units=jnp.asarray(request.units)))
    # Back to grey levels.
    patterns = drawings.cropped_to_pattern(found / np.asarray(net.stats.scale))
    is_classifier = request.layer == net.model.net.layers[-1].name
    names = [net.class_names[x] if is_classifier else f"unit {x}" for x in request.units]
    cells = [Captioned(drawings.pattern(x), name) for x, name in zip(patterns, names, strict=True)]
    starts = range(0, len(cells), UNIT_COLUMNS)
    rows_sheet(request.sheet, [cells[start : start + UNIT_COLUMNS] for start in starts])
