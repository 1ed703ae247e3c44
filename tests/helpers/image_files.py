"""Small picture files and data sets in the layouts that `prepare` reads."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image


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


def image_file(pixels, suffix, mode="RGB", **options):
    """A file of the kind that has this suffix."""
    if suffix == "webp":
        options = {"lossless": True, **options}
    if suffix == "pgm":
        mode = "L"
    return _file(pixels, Image.registered_extensions()[f".{suffix}"], mode, **options)


def oriented(upright, orientation, suffix):
    """A file whose pixels lie as a camera held in this way (EXIF, 1 to 8) records `upright`."""
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return image_file(np.ascontiguousarray(stored), suffix, exif=exif)


def _file(pixels, kind, mode, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def write_folder(root, splits):
    """Writes {split: {class: {file name or path: bytes}}}."""
    for split, classes in splits.items():
        for name, files in classes.items():
            Path(root, split, name).mkdir(parents=True, exist_ok=True)
            for file_name, content in files.items():
                path = Path(root, split, name, file_name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
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
