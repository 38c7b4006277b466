"""SIGINT, SIGTERM and SIGHUP: how a run ends when it is told to, in its main process and in its workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ENDING_SECONDS = 30
AGAIN_SECONDS = 0.01


class _Ending:
    """Turns the first signal that this process gets into KeyboardInterrupt."""

    def __init__(self, limit_seconds: int) -> None:
        self.limit_seconds = limit_seconds
        self.take_over()
        os.register_at_fork(after_in_child=self.take_over)

    def take_over(self) -> None:
        """Be the handler of this very process."""
        self.process = os.getpid()
        self.has_begun = False
        self.number = 0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self.process:
            # A child that is still being made: Python would swallow an exception here, and it has nothing to undo.
            os._exit(128 + number)
        # Once: a terminal and doit itself both send signals to workers, which are unmounting by then.
        if not self.has_begun:
            self.has_begun = True
            self.number = number
            # Whatever swallows the exception or waits for ever: the kernel unmounts what a dead process had.
            signal.alarm(self.limit_seconds)
            raise KeyboardInterrupt(signal.Signals(number).name)

    def take_swallowed(self, lost: sys.UnraisableHookArgs) -> None:
        """Be sys.unraisablehook: what is raised in a destructor or beside a fork goes no further, so try again."""
        if not isinstance(lost.exc_value, KeyboardInterrupt) or os.getpid() != self.process:
            sys.__unraisablehook__(lost)
            return
        # A moment later, when that code has been left.
        signal.signal(signal.SIGALRM, self.strike_again)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)

    def strike_again(self, _number: int, frame: FrameType | None) -> None:
        """Be the first signal once more."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self.has_begun = False
        self(self.number, frame)


def stop_on_signals(limit_seconds: int = ENDING_SECONDS) -> None:
    """Each of the signals ends a run so that what is mounted is unmounted, children are ended, one line is said.

    What has not ended within the limit is killed.
    """
    if isinstance(signal.getsignal(signal.SIGTERM), _Ending):
        return  # a forked worker has them from its parent
    handler = _Ending(limit_seconds)
    for number in ENDING_SIGNALS:
        # nohup ignores SIGHUP for us, and means it.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)
    sys.excepthook = _say_interrupted
    sys.unraisablehook = handler.take_swallowed


def forget_signals() -> None:
    """Between fork and exec: a signal ends the child, which has not begun to be another program."""
    for number in ENDING_SIGNALS:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def _say_interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    elif multiprocessing.parent_process() is None:
        print(f"\ninterrupted by {error}; the next run goes on from the last finished step", file=sys.stderr)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let signals that end a run wait until the body is done: a mount half made or unmade would stay."""
    held = [number for number in ENDING_SIGNALS if callable(signal.getsignal(number))]
    if threading.current_thread() is not threading.main_thread():
        held = []  # handlers run in the main thread, and only it may set them
    seen: list[int] = []
    before = {number: signal.signal(number, lambda number, _: seen.append(number)) for number in held}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if seen:
            signal.raise_signal(seen[0])
