"""What a process has started, for tests and benchmarks that kill."""

import contextlib
from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """Process id -> command line of all that a process started, and what those started, nearest first."""
    parents: dict[int, list[int]] = {}
    lines: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(folder.name))
                lines[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return {child: lines.get(child, "") for child in found}
