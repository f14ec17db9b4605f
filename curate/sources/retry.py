"""Requests to storage again, where the fault may pass: time-outs, reset connections, throttling, errors of the server.

What will not pass is raised at once: a file that is not there, that may not be read, that exists or has changed. Everything else is tried
again after 0.5 s, 1 s, 2 s, ... with some jitter, `ATTEMPTS` times in all, about a minute.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from curate.errors import CurateError

T = TypeVar("T")

ATTEMPTS = 8
FIRST_WAIT_S, MAX_WAIT_S = 0.5, 20.0
FINAL = (
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
    ValueError,
    TypeError,
)
FINAL_NAMES = ("FileExpired", "NoCredentialsError", "PartialCredentialsError", "ParamValidationError")
"""Of storage packages, which need not be installed."""


def is_final(error: BaseException) -> bool:
    """Whether the same request would fail again."""
    status = getattr(error, "status", None)  # of an HTTP answer
    if isinstance(status, int):
        return status < 500 and status not in (408, 425, 429)
    return isinstance(error, (*FINAL, CurateError)) or type(error).__name__ in FINAL_NAMES or not isinstance(error, Exception)


def retried(request: Callable[[], T], attempts: int = ATTEMPTS, sleep: Callable[[float], None] = time.sleep) -> T:
    """The request's answer; raises the last error once it is final or `attempts` are used up."""
    for attempt in range(1, attempts + 1):
        try:
            return request()
        except BaseException as error:
            if attempt == attempts or is_final(error):
                raise
        sleep(min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25))
    raise AssertionError("attempts is at least 1")
