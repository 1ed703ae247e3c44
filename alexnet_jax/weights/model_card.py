"""The model card of an exported net: README.md with the hub's metadata at its head."""

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.nets.shapes import without_statistics
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.runs.predictions import split_of
from alexnet_jax.weights.layouts import Params

TAGS = ("image-classification", "alexnet", "jax", "flax")

CARD = """---
{metadata}
---

# {net}, trained on {data}

{about} ({source}).
Width {width:g}, {parameters:,} parameters, {classes} classes.

{results}

```python
import alexnet_jax

model, variables, config = alexnet_jax.load("FOLDER")  # where this file lies
images = (pixels - variables["input"]["mean"]) * variables["input"]["scale"]
logits, endpoints = model.apply(variables, images)
```

`pixels` are float32 `[N, {crop}, {crop}, 3]`, RGB, 0–255: of an image whose shorter side is resized
to {image_size} pixels, the centre.

`model.safetensors` holds `LAYER.kernel` (`[towers, rows, columns, in, out]` or
`[towers, in, out]`), `LAYER.bias` and `input.mean`, of batch normalisation `LAYER.scale`, `mean`
and `variance` too; `config.json` every setting of the run.
"""


def model_card(
    config: ConfigDict, params: Params, evaluation: Mapping[str, Any], license_name: str
) -> str:
    """Returns the card's Markdown.

    Args:
      config: of the run, resolved.
      params: of the net.
      evaluation: the content of eval.json; {} if the net was not evaluated.
      license_name: of the weights.
    """
    net, learned = NETS[config.model.name], without_statistics(params)
    return CARD.format(
        metadata="\n".join(
            # The head is YAML. JSON is valid YAML, and json.dumps adds the quotes.
            f"{key}: {json.dumps(value, ensure_ascii=False)}"
            for key, value in _metadata(config.model.name, evaluation, license_name).items()
        ),
        net=config.model.name,
        data=config.data.name,
        about=net.about[:1].upper() + net.about[1:],
        source=net.source,
        width=config.model.width,
        parameters=sum(x.size for leaves in learned.values() for x in leaves.values()),
        classes=config.model.num_classes,
        crop=config.data.crop_size,
        image_size=config.data.image_size,
        results=_results(evaluation),
    )


def _metadata(net: str, evaluation: Mapping[str, Any], license_name: str) -> dict[str, Any]:
    """Returns the fields that the hub reads, with the measured accuracies if there are any."""
    fields: dict[str, Any] = {
        "library_name": "alexnet_jax",
        "license": license_name,
        "pipeline_tag": "image-classification",
        "tags": list(TAGS),
    }
    # The hub's metric is the accuracy, ours the error.
    metrics = [
        {"type": "accuracy", "name": f"{name} accuracy", "value": 1 - error}
        for name, error in _errors(evaluation).items()
    ]
    if metrics:
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"name": evaluation["data"], "type": evaluation["data"]},
            "metrics": metrics,
        }
        fields["model-index"] = [{"name": net, "results": [result]}]
    return fields


def _errors(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Returns the errors by their names; empty without an evaluation."""
    if not evaluation:
        return {}
    split = split_of(evaluation)
    return {
        "top-1": evaluation[f"{split}/top1_error"],
        "top-5": evaluation[f"{split}/top5_error"],
    }


def _results(evaluation: Mapping[str, Any]) -> str:
    """Returns a sentence with the measured errors, or one that says that there are none."""
    if not evaluation:
        return "It has not been evaluated."
    split = split_of(evaluation)
    errors = " and ".join(
        f"{100 * error:.2f} % {name} error" for name, error in _errors(evaluation).items()
    )
    images, views = evaluation[f"{split}/examples"], evaluation[f"{split}/views"]
    return (
        f"Measured on the {images:,} images of the {split} split of {evaluation['data']}, in "
        f"{views} view(s): {errors}."
    )
