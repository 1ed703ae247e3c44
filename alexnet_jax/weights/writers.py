"""Writers of a trained net for other programs: .safetensors, .npz and .onnx."""

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from alexnet_jax.errors import UserError
from alexnet_jax.weights.layouts import LAYOUTS, to_arrays, unnamed_layers
from alexnet_jax.weights.trained_net import TrainedNet


def array_file(trained: TrainedNet, layout_name: str, kind: str) -> bytes:
    """Returns the content of a .safetensors or .npz in the layout of another program.

    Args:
      trained: the net.
      layout_name: key of LAYOUTS.
      kind: ".npz" or ".safetensors".

    Raises:
      UserError: a layer that the layout cannot hold.
    """
    layout = LAYOUTS[layout_name]
    unnamed = unnamed_layers(layout, trained.net)
    if unnamed:
        raise UserError(
            f"--layout={layout_name} cannot hold {', '.join(unnamed)} of "
            f"{trained.config.model.name}; export to .onnx or a folder, which hold every layer"
        )
    arrays = to_arrays(layout, trained.net, trained.params)
    if kind == ".npz":
        # Without metadata: readers would take a further array for a weight.
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()
    return save(arrays, metadata=facts(trained, array_input(trained, layout_name)))


def onnx_file(trained: TrainedNet) -> bytes:
    """Returns the content of an .onnx; raises UserError for a layer that ONNX cannot hold."""
    from alexnet_jax.weights.onnx_graph import onnx_model

    scale = np.asarray(trained.config.data.input_scale, np.float32)
    metadata = facts(trained, onnx_input(trained))
    model = onnx_model(trained.net, trained.params, trained.mean, scale, metadata)
    return model.SerializeToString()


def facts(trained: TrainedNet, input_text: str) -> dict[str, str]:
    """Returns the metadata of a file: net, input, class names and config, each as a string."""
    return {
        "net": trained.config.model.name,
        "input": input_text,
        "class_names": json.dumps(trained.class_names, ensure_ascii=False),
        "config": json.dumps(trained.config.to_dict()),
    }


def onnx_input(trained: TrainedNet) -> str:
    """Describes the images that an ONNX model takes."""
    side = trained.net.crop
    return f"float32 [N, 3, {side}, {side}], RGB of 0–255; the model applies mean and scale itself"


def array_input(trained: TrainedNet, layout_name: str) -> str:
    """Describes the images that the weights in another program's layout take."""
    side, mean, scale = trained.net.crop, trained.mean, trained.config.data.input_scale
    rgb = ", ".join(f"{x:.6g}" for x in mean.reshape(-1, 3).mean(0))
    factors = ", ".join(f"{x:.6g}" for x in scale)
    if mean.ndim == 1:
        subtracted = f"the RGB mean ({rgb})"
    else:
        subtracted = f"the mean image, which a folder holds (its RGB mean is {rgb})"
    order = "BGR" if LAYOUTS[layout_name].bgr else "RGB"
    return (
        f"{side}×{side} pixels of 0–255 less {subtracted}, times ({factors}), in the order {order}"
    )


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes a folder that is never seen half-written."""
    draft = path.with_name(f".{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # of an export that was killed
    try:
        draft.mkdir()
        for name, content in files.items():
            (draft / name).write_bytes(content)
        draft.rename(path)
    finally:  # after the rename nothing is left to remove
        shutil.rmtree(draft, ignore_errors=True)
