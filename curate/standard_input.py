"""Standard input that no process of ours may have: a terminal.

A program that is started in the background and touches the terminal is stopped by the system (SIGTTOU, SIGTTIN) until somebody brings it
to the foreground. `import scenedetect` starts `ffmpeg`, which sets the terminal's modes; in a Ray worker nobody ever would. Processes
inherit descriptor 0, so it is the null device while any may be started.
"""

import contextlib
import os
from collections.abc import Iterator


def detach() -> None:
    """Make the null device this process' standard input, for good."""
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(null, 0)
    finally:
        if null:
            os.close(null)


@contextlib.contextmanager
def detached() -> Iterator[None]:
    """Hold the null device as standard input; what was there before, if anything, comes back afterwards."""
    try:
        before = os.dup(0)  # not inheritable
    except OSError:  # closed, as `0<&-` leaves it
        before = -1
    detach()
    try:
        yield
    finally:
        if before >= 0:
            os.dup2(before, 0)
            os.close(before)
