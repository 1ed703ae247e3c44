"""Names of files and folders as text."""

import os
import unicodedata

# Folders that file managers, network drives and archives leave behind.
HIDDEN = frozenset(("@eaDir", "@Recycle", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found"))


def is_hidden(name: str) -> bool:
    """True if a file or folder is not the user's own: .git, .ipynb_checkpoints, @eaDir, …"""
    return name.startswith(".") or name in HIDDEN


def readable(name: str) -> str:
    """Returns a name or path in characters that can be printed and saved.

    Bytes that are not UTF-8, as in archives from old systems, are read as Latin-1.
    """
    content = os.fsencode(name)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def class_name(folder: str) -> str:
    """Returns the name of the class that a folder of this name holds.

    macOS writes é as e and an accent, other systems as one character: both are the same class.
    """
    return unicodedata.normalize("NFC", readable(folder))
