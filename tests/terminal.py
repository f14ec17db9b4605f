"""A shell with job control on a pseudo-terminal, as a person has it: type, wait for what appears, Ctrl-C, Ctrl-Z, `fg`."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from process_tree import descendants

PROMPT = "ready> "
# A stand-in for ffmpeg: notes what it got as standard input, and touches the terminal as the real one does.
FFMPEG = """#!/bin/sh
if [ -t 0 ]; then echo tty >> {log}; stty -echo; stty echo; else echo no tty >> {log}; fi
echo "ffmpeg version 7.1 Copyright (c) the FFmpeg developers"
"""


class Terminal:
    """`bash` on a new pseudo-terminal. Used as a context; in the end everything that it started is killed."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        self.said = ""
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            environment = {**os.environ, "PS1": PROMPT, "TERM": "xterm", "COLUMNS": "200", **(env or {})}
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], environment)
        self.until(re.escape(PROMPT))

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        for pid in [*descendants(self._pid), self._pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.close(self._master)
        os.waitpid(self._pid, 0)

    @property
    def pid(self) -> int:
        return self._pid

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, pattern: str, timeout_s: float = 120.0) -> str:
        """What appears up to the first match of a pattern, which is taken from what is looked at next."""
        deadline = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.said)) is None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._master], [], [], left)[0]:
                raise AssertionError(f"{pattern!r} did not appear in {timeout_s:.0f} s:\n{self.said[-3000:]}")
            self.said += os.read(self._master, 65536).decode(errors="replace")
        seen, self.said = self.said[: found.end()], self.said[found.end() :]
        return seen

    def run(self, command: str, timeout_s: float = 120.0) -> tuple[int, str]:
        """Exit code of a command, and what appeared."""
        self.type(f"{command}; echo code=$?\n")
        seen = self.until(r"code=(\d+)\r\n", timeout_s)
        self.until(re.escape(PROMPT))
        return int(re.findall(r"code=(\d+)\r\n", seen)[-1]), seen


def stand_in(folder: Path) -> tuple[dict[str, str], Path]:
    """An environment whose first `ffmpeg` is the stand-in, and the file in which it notes its starts."""
    log, program = folder / "ffmpeg.log", folder / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FFMPEG.format(log=log))
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}, log


def without_ffmpeg(folder: Path) -> dict[str, str]:
    """An environment without any ffmpeg: what a shell needs, and this interpreter."""
    programs = folder / "bare"
    programs.mkdir()
    for name in ("bash", "sh", "stty", "cat", "uname"):
        found = subprocess.run(["sh", "-c", f"command -v {name}"], capture_output=True, text=True, check=True).stdout.strip()
        (programs / name).symlink_to(found)
    (programs / "python").symlink_to(sys.executable)
    return {"PATH": str(programs)}
