"""Ends a process that takes more memory than it may, before the machine's out-of-memory killer picks one."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

POLL_S = 0.2
EXIT_CODE = 137  # as of a process that was killed


def guard_memory(limit_gb: float, last_words: Callable[[str], None]) -> None:
    """Watches this process' resident memory from a thread; above the limit says why and ends it. Does nothing where there is no /proc."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return
    page_bytes = os.sysconf("SC_PAGE_SIZE")

    def watch() -> None:
        while True:
            used_gb = int(statm.read_text().split()[1]) * page_bytes / 1e9
            if used_gb > limit_gb:
                try:
                    last_words(f"it took {used_gb:.1f} GB of memory, more than limits.worker_gb={limit_gb:g}")
                finally:
                    os._exit(EXIT_CODE)
            time.sleep(POLL_S)

    threading.Thread(target=watch, name="memory guard", daemon=True).start()
