"""Resolve base and `[all]` for the platforms that this machine is not: `make resolve`, which writes the table of docs/install.md.

`uv pip compile` takes wheels only and evaluates markers for the platform asked for, which pip does for its own alone. Nothing is
installed and nothing is run: a cell says that pip would find a wheel of every package there, and how many.
"""

import argparse
import datetime as dt
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "install.md"
PLATFORMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux aarch64": "aarch64-manylinux_2_28",
    "macOS 14 arm64": "aarch64-apple-darwin",
    "Windows x86-64": "x86_64-pc-windows-msvc",
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACOS = "14.0"  # the oldest that PyAV's and OpenCV's wheels for arm64 are made for
WANTED = {"base": [], "all": ["--extra", "all"]}


def resolve(uv: str, platform: str, python: str, extra: list[str]) -> tuple[int, str]:
    """Returns the number of packages, and uv's reason where they cannot be had together."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "resolved.txt"
        where = ["--python-platform", platform, "--python-version", python, "--output-file", str(target)]
        command = [uv, "pip", "compile", "--quiet", "--no-build", "--no-header", "--no-annotate", *extra, *where, "pyproject.toml"]
        environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
        if done.returncode:
            return 0, " ".join(done.stderr.split())
        return len(re.findall(r"^[\w.-]+==", target.read_text(), re.MULTILINE)), ""


def table(uv: str) -> tuple[list[str], list[str]]:
    """Returns the rows of the table, and every reason why one cannot be resolved."""
    rows, problems = [f"| platform | {' | '.join(PYTHONS)} |", f"|---{'|---' * len(PYTHONS)}|"], []
    for name, platform in PLATFORMS.items():
        for wanted, extra in WANTED.items():
            cells = []
            for python in PYTHONS:
                count, reason = resolve(uv, platform, python, extra)
                print(f"{name}, Python {python}, {wanted}: {reason or f'{count} packages'}", file=sys.stderr, flush=True)
                cells.append(str(count) if count else "**no**")
                problems += [f"{name}, Python {python}, {wanted}: {reason}"] if reason else []
            rows.append(f"| {name}, {wanted} | {' | '.join(cells)} |")
    return rows, problems


def main() -> int:
    """Writes the table between its marks in docs/install.md; exits with 1 where something cannot be resolved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uv", default="uv", help="the program uv")
    args = parser.parse_args()
    rows, problems = table(args.uv)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    made = "\n".join([f"Resolved on {today} (packages, the project not counted):", "", *rows])
    page = PAGE.read_text(encoding="utf-8")
    marked = re.compile(r"(<!-- make resolve -->\n).*?(\n<!-- end -->)", re.DOTALL)
    assert marked.search(page), f"{PAGE} has lost the marks of its table"
    PAGE.write_text(marked.sub(lambda marks: marks[1] + made + marks[2], page), encoding="utf-8")
    print(made)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
