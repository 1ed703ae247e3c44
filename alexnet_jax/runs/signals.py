"""SIGTERM, SIGINT and SIGHUP, kept as a request that the training loop reads between two steps."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from alexnet_jax.disk.descriptors import discard

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(Exception):
    """The interruption by a signal of work that can be done again later, such as a validation."""


class Stop:
    """The first signal that arrived; a SIGINT after it ends the program at once.

    The main thread runs Python's signal handlers only between two bytecodes, and the compilation of
    a net is a single call of up to a minute. So a thread reads the signals from a pipe on arrival.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        reading, writing = os.pipe()
        # set_wakeup_fd requires it: a signal handler must never wait for a full pipe.
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        # Noted now: a terminal that is closed no longer says that it is one.
        self.terminals = [file.fileno() for file in (sys.stdout, sys.stderr) if file.isatty()]
        for number in SIGNALS:
            # Under nohup SIGHUP is ignored: the training goes on without its terminal.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._remember)
        # A daemon, because its read of the pipe never ends.
        threading.Thread(target=self._watch, args=(reading,), daemon=True).start()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        # The first signal stays: it decides the exit code.
        self.signal = self.signal or number
        if number == signal.SIGHUP:
            self._discard_terminal()
        # The second Ctrl-C ends the process even where our thread cannot run.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def _watch(self, reading: int) -> None:
        reported = False
        while True:
            (number,) = os.read(reading, 1)
            if reported and number == signal.SIGINT:
                # sys.exit in a thread would end only that thread.
                os._exit(128 + number)
            if not reported and number in SIGNALS:
                self.signal, reported = self.signal or number, True
                if number == signal.SIGHUP:
                    self._discard_terminal()
                name = signal.Signals(number).name
                print(f"{name}: saving after this step, then ending", file=sys.stderr, flush=True)

    def _discard_terminal(self) -> None:
        """Discards what is printed on a terminal that was closed; writing to it would raise."""
        for descriptor in self.terminals:
            discard(descriptor)

    def signal_number(self) -> int:
        """Returns the number of the signal so far; 0 without one."""
        return self.signal or 0

    def adopt(self, number: int) -> bool:
        """Adopts a signal received by any process; returns True if there is one."""
        self.signal = self.signal or number or None
        return number > 0

    @property
    def exit_code(self) -> int:
        """Returns the exit code of the signal: 143, 130 or 129; 0 without one."""
        return 128 + self.signal if self.signal else 0

    def until(self, items: Iterator[Any]) -> Iterator[Any]:
        """Yields the items; raises Stopped once a signal has arrived."""
        for item in items:
            if self.signal:
                raise Stopped
            yield item
