"""Ray as the engines start or join it: quiet, away from the terminal, and with a plain error where there is no cluster.

`ray.init` waits for minutes in compiled code for a cluster that is not there, and lines of its log fill the terminal meanwhile. So an
address is tried first by a process of its own that can be ended.
"""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ray

from curate.errors import ConfigError
from curate.standard_input import detached

CONNECT_S, JOIN_S = 5.0, 25.0
TOKEN = "a cluster answers, and wants Ray's token: set RAY_AUTH_MODE=token, with the token of its machine in ~/.ray/auth_token"
JOIN = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR'); ray.shutdown()"


@contextlib.contextmanager
def connected(address: str | None, num_cpus: int, runtime_env: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Join the cluster at `address`, or start Ray on this machine (None), and leave it in the end.

    Raises `ConfigError` within half a minute where no cluster answers.
    """
    known: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if runtime_env:
        known["runtime_env"] = dict(runtime_env)
    if address:
        _check_cluster(address)
    else:
        known |= {"num_cpus": num_cpus, "include_dashboard": False}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        with detached():
            # "local": without it Ray joins whatever cluster runs on this machine.
            ray.init(address or "local", **known)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _refused(address, _last_line(str(error))) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_cluster(address: str) -> None:
    host, _, port = address.rpartition("://")[2].rpartition(":")
    start = time.monotonic()
    if port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
        except OSError as error:
            raise _refused(address, f"nothing answers there ({error.strerror or error})") from error
    left_s = JOIN_S - (time.monotonic() - start)
    try:
        command = [sys.executable, "-c", JOIN, address]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=left_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise _refused(address, f"what answers there is no Ray cluster, or one too slow to join in {JOIN_S:.0f} s") from error
    if done.returncode:
        said = done.stderr + done.stdout
        if "AuthToken" in said or "uthentication token" in said:
            raise ConfigError(f"ray_address={address}: {TOKEN}")
        raise _refused(address, _last_line(done.stderr))


def _refused(address: str | None, why: str) -> ConfigError:
    remedy = "start a cluster there (`ray start --head`), name another, or leave ray_address out: then Ray starts on this machine"
    return ConfigError(f"ray_address={address or 'null'}: {why}; {remedy}" if address else f"Ray could not be started here: {why}")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "no reason is known"
