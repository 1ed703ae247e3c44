"""SIGTERM and SIGINT as a wish that the loop sees between two steps."""

import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """A stop was asked for while something ran that can be done again later."""


class Stop:
    """Remembers the first signal; a second SIGINT ends the program at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        for number in SIGNALS:
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        self.signal = number

    @property
    def exit_code(self) -> int:
        """The shell's code for the signal: 143 for SIGTERM, 130 for SIGINT; 0 without one."""
        return 128 + self.signal if self.signal else 0

    def until(self, items: Iterator[Any]) -> Iterator[Any]:
        """The items, or Stopped once a stop is asked for."""
        for item in items:
            if self.signal:
                raise Stopped
            yield item
