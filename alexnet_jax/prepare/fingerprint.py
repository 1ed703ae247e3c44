"""Fingerprints of original files, which change when a file is added, removed or rewritten."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from alexnet_jax.prepare.access import unreadable_named


def fingerprint_files(root: Path, paths: Iterable[Path]) -> str:
    """Returns the SHA-256 of the files' names below root, sizes and modification times, in order.

    Raises UserError for a file that cannot be accessed.
    """
    # Contents are not read, which would take minutes for ImageNet.
    digest = hashlib.sha256()
    for path in paths:
        with unreadable_named():
            found = path.stat()
        # Bytes, because a name need not be UTF-8.
        name = os.fsencode(path.relative_to(root))
        # \0 ends the name: no name holds one, so no two lists of files give the same bytes.
        digest.update(b"%s\0%d %d\n" % (name, found.st_size, found.st_mtime_ns))
    return digest.hexdigest()


def fingerprint_json(content: object) -> str:
    """Returns the SHA-256 of content that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
