"""The error that means a user's mistake, and the one line on stderr that it becomes."""

import sys
from typing import NoReturn

MISTAKE = 2  # exit code after a UserError


class UserError(Exception):
    """A wrong flag or value, missing data or a broken file.

    Every command turns it into exit code 2 and one stderr line, `error: <message>`. The message
    names the value that is wrong and says what to do about it, in one line.
    """


def is_utf8(text: str) -> bool:
    """True if a file name, path or argument consists of valid UTF-8."""
    # Python decodes each byte that is not UTF-8 to one of these surrogates (PEP 383).
    return not any("\udc80" <= x <= "\udcff" for x in text)


def stop(message: object) -> NoReturn:
    """Prints the message as one `error:` line on stderr and ends the process with exit code 2."""
    print("error: " + " ".join(str(message).split()), file=sys.stderr)
    sys.exit(MISTAKE)
