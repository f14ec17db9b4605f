"""Requests to storage again, where the fault may pass: time-outs, reset connections, throttling, errors of the server.

What will not pass is raised at once: a file that is not there, that may not be read or written, that exists or has changed, a storage that
is full. Everything else is tried again after 0.5 s, 1 s, 2 s, ... with some jitter, `ATTEMPTS` times in all, about a minute; the packages
that talk to a storage try by themselves too, so that a server that only ever says no may take some minutes to be believed.
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
FULL_CODES = ("QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "InsufficientCapacity")
"""What servers that speak S3 say when there is no room (MinIO, Ceph and others); AWS has no such answer."""
PASSING_CODES = ("RequestTimeout", "IncompleteBody", "BadDigest", "OperationAborted", "ConditionalRequestConflict")
"""Answers of S3 that blame the request, for what went wrong on its way."""


def is_final(error: BaseException) -> bool:
    """Whether the same request would fail again."""
    if isinstance(error, (*FINAL, CurateError)) or type(error).__name__ in FINAL_NAMES or not isinstance(error, Exception):
        return True
    status, code = _answer(error)
    if is_full(error):
        return True
    return status is not None and status < 500 and status not in (408, 425, 429) and code not in PASSING_CODES


def is_full(error: BaseException) -> bool:
    """Whether a storage has no room left, or none for us."""
    status, code = _answer(error)
    return status == 507 or code in FULL_CODES


def is_denied(error: BaseException) -> bool:
    """Whether a storage knows us and says no, or does not know us."""
    return isinstance(error, PermissionError) or _answer(error)[0] in (401, 403) or type(error).__name__ in FINAL_NAMES[1:3]


def explained(error: BaseException, needs: str = "list, read, write and delete") -> str:
    """The storage's reason in a line, and what to do about it; `needs` is what credentials must allow."""
    code = _answer(error)[1]
    reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if code and code not in reason:
        reason = f"{code}: {reason}"
    if is_full(error):
        remedy = "there is no room left, or the quota is used up: make room"
    elif is_denied(error):
        remedy = f"check that these credentials may {needs} there"
    else:
        remedy = "check the network and the storage's state"
    return f"{reason}; {remedy}"


def retried(request: Callable[[], T], attempts: int | None = None, sleep: Callable[[float], None] = time.sleep) -> T:
    """The request's answer; raises the last error once it is final or `attempts` (`ATTEMPTS` where it is None) are used up."""
    attempts = ATTEMPTS if attempts is None else attempts
    for attempt in range(1, attempts + 1):
        try:
            return request()
        except BaseException as error:
            if attempt == attempts or is_final(error):
                raise
        sleep(min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25))
    raise AssertionError("attempts is at least 1")


def _answer(error: BaseException) -> tuple[int | None, str]:
    """Status and code of the server's answer, as far as the error or what it was raised from knows them."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)  # botocore's
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status, str(response.get("Error", {}).get("Code", ""))
        if type(one).__module__ == "aiohttp.http_exceptions":
            continue  # an answer that broke off, which aiohttp numbers 400
        for name in ("status", "code"):  # aiohttp's, gcsfs'
            status = getattr(one, name, None)
            if isinstance(status, int):
                return status, ""
    # gcsfs raises a bare error where it is refused.
    return (403, "") if type(error) is OSError and str(error).startswith("Forbidden: ") else (None, "")
