"""Questions to whoever sits at the terminal."""

import os
import sys
from collections.abc import Callable


def agreement(is_given: bool) -> Callable[[str], bool]:
    """Makes the one who is asked what a changed pass costs: the command line said yes already
    (`--yes`), or the user at the terminal does.
    """

    def told(text: str) -> bool:
        sys.stderr.write(f"note: {text}\n")
        return True

    return told if is_given else lambda text: confirmed(f"{text}\nScan them again?")


def confirmed(question: str) -> bool:
    """Asks for a yes on the controlling terminal, whatever standard input is. False where nobody
    would see the question: there is no terminal, messages go elsewhere, or the process runs in its
    background.
    """
    if not sys.stderr.isatty():
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    with open(terminal, "rb", buffering=0) as answers:
        if os.tcgetpgrp(terminal) != os.getpgrp():
            return False
        os.write(terminal, f"{question} [y/N] ".encode())
        return answers.readline().strip().lower() in (b"y", b"yes")
