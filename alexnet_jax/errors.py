"""The one exception that means: the user can mend this."""

MISTAKE = 2  # exit code of a UserError


class UserError(Exception):
    """A wrong flag or value, missing data or a broken file.

    Every command turns it into exit code 2 and one stderr line, `error: <message>`. The message
    names the value that is wrong and says what to do about it, in one line.
    """
