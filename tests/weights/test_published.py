"""The trained nets in results/nets give what their model cards say."""

import re

import numpy as np
from commands import TOP

import alexnet_jax
from alexnet_jax.data import open_dataset
from alexnet_jax.data.records import read_images
from alexnet_jax.preprocess import centre_crop

DIGITS = TOP / "results" / "nets" / "digits"


def test_the_published_digits_net_has_the_error_of_its_card():
    model, variables, config = alexnet_jax.load(DIGITS)
    split = open_dataset(config.data).splits["test"]
    images = read_images(split, np.arange(len(split)))
    crops = np.stack([centre_crop(image, config.data.crop_size) for image in images])
    stats = variables["input"]
    logits, _ = model.apply(variables, (crops - np.asarray(stats["mean"])) * stats["scale"])
    wrong = np.asarray(logits).argmax(1) != np.asarray(split.labels)
    card = (DIGITS / "README.md").read_text()
    (said,) = re.findall(r"([\d.]+) % top-1 error", card)
    assert f"{100 * wrong.mean():.2f}" == said


def test_a_published_net_is_small():
    for folder in (TOP / "results" / "nets").iterdir():
        assert (folder / "model.safetensors").stat().st_size < 2_000_000, folder
