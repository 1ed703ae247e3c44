"""SIGTERM and SIGINT as a wish that the loop sees between two steps."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """A stop was asked for while something ran that can be done again later."""


class Stop:
    """Remembers the first signal; a SIGINT after it ends the program at once.

    Python runs its handlers only between two steps of the interpreter, and compiling a net is one
    step of a minute. So a thread reads the signals from a pipe as they come in.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        for number in SIGNALS:
            signal.signal(number, self._remember)
        threading.Thread(target=self._watch, args=(reading,), daemon=True).start()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def _watch(self, reading: int) -> None:
        told = False
        while True:
            (number,) = os.read(reading, 1)
            if told and number == signal.SIGINT:
                os._exit(128 + number)
            if not told and number in SIGNALS:
                self.signal, told = self.signal or number, True
                name = signal.Signals(number).name
                print(f"{name}: saving after this step, then ending", file=sys.stderr, flush=True)

    def read(self) -> int:
        """The number of the signal so far; 0 without one."""
        return self.signal or 0

    def heed(self, number: int) -> bool:
        """Takes a signal that one of several processes got as this one's too; True if it is one."""
        self.signal = self.signal or number or None
        return number > 0

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
