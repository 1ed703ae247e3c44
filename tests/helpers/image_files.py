"""Small picture files and data sets in the layouts that `prepare` reads."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(height, width, seed=0):
    """A smooth random picture, uint8 [height, width, 3], which JPEG and resizing keep well."""
    rng = np.random.default_rng(seed)
    y = np.linspace(0, 1, height)[:, None, None]
    x = np.linspace(0, 1, width)[None, :, None]
    waves = rng.uniform(1, 4, (2, 3)), rng.uniform(0, 6, 3)
    return np.uint8(127.5 + 100 * np.cos(waves[0][0] * y + waves[0][1] * x + waves[1]))


def plain(height, width, colour):
    """A picture of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def jpeg(pixels, mode="RGB"):
    """A JPEG file; mode L is grey, CMYK the printers' four colours."""
    return _file(pixels, "JPEG", mode, quality=95, subsampling=0)


def png(pixels, mode="RGB"):
    """A PNG file; mode P has a palette, RGBA transparency."""
    return _file(pixels, "PNG", mode)


def _file(pixels, kind, mode, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def write_folder(root, splits):
    """Writes {split: {class: {file name: bytes}}}."""
    for split, classes in splits.items():
        for name, files in classes.items():
            folder = Path(root, split, name)
            folder.mkdir(parents=True)
            for file_name, content in files.items():
                (folder / file_name).write_bytes(content)
    return Path(root)


def tar(files):
    """An uncompressed tar archive of {name: bytes}."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as out:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def write_imagenet(root, train, val):
    """Writes ILSVRC-2012's two tar files from {wnid: [JPEG, …]} and [JPEG, …]."""
    classes = {
        f"{wnid}.tar": tar({f"{wnid}_{i + 1}.JPEG": x for i, x in enumerate(images)})
        for wnid, images in train.items()
    }
    root.mkdir(exist_ok=True)
    (root / "ILSVRC2012_img_train.tar").write_bytes(tar(classes))
    names = [f"ILSVRC2012_val_{i + 1:08d}.JPEG" for i in range(len(val))]
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar(dict(zip(names, val, strict=True))))
    return root
