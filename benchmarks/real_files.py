"""Real files of other people: is every picture delivered, and is the status true?

    python benchmarks/real_files.py run FOLDER OUT.jsonl [LIST.tsv]     read every file twice, ours and plainly
    python benchmarks/real_files.py table OUT.jsonl [OUT.jsonl ...]     print the tables of docs/benchmarks.md

`run` walks over FOLDER. Files are read in another process with a time limit for each, by `curate.media.open_reader` (what a scan
reads) and by two others that share nothing with it: a plain PyAV loop over `container.decode()` of the stream that FFmpeg's own
`av_find_best_stream` takes, with no option but one thread, and `ffprobe -count_packets` for size, rotation and packets. A file that
the plain loop decodes without an exception, without a line of level error in the log of FFmpeg's decoders, and as a whole, is called
clean. LIST.tsv has columns repository, commit, path, bytes; with it the files below FOLDER/owner+name are read that it lists.

    missing   frames that the plain loop gives and the reader does not, in per cent of the former
    status    ok, damaged or failed, as the `sources` table has it
"""

import argparse
import csv
import json
import logging
import select
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

TIMEOUT_S = 900
STILL_FRAMES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("folder", type=Path)
    run.add_argument("out", type=Path)
    run.add_argument("list", type=Path, nargs="?")
    commands.add_parser("serve")
    commands.add_parser("table").add_argument("files", type=Path, nargs="+")
    args = parser.parse_args()
    if args.command == "serve":
        for line in sys.stdin:
            path = json.loads(line)
            print(json.dumps({"ours": read_ours(path), "plain": read_plainly(path)}), flush=True)
    elif args.command == "run":
        run_all(args.folder, args.out, args.list)
    else:
        print_tables([json.loads(line) for path in args.files for line in path.read_text().splitlines()])


def run_all(folder: Path, out: Path, listed: Path | None) -> None:
    done = {json.loads(line)["path"] for line in out.read_text().splitlines()} if out.exists() else set()
    child = Child()
    with out.open("a") as file:
        for path in files_below(folder, listed):
            name = str(path.relative_to(folder))
            if name in done:
                continue
            row = {"path": name, "size": path.stat().st_size, "ffprobe": probe(path), **child.read(path)}
            file.write(json.dumps(row) + "\n")
            file.flush()


def files_below(folder: Path, listed: Path | None) -> Iterator[Path]:
    if listed is None:
        yield from sorted(path for path in folder.rglob("*") if path.is_file())
        return
    with listed.open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            path = folder / row["repository"].replace("/", "+") / row["path"]
            if path.is_file():
                yield path


class Child:
    """A process that reads files; a decoder that crashes or hangs is that file's result, and the next gets a new process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def read(self, path: Path) -> dict[str, Any]:
        if self._process is None:
            command = [sys.executable, __file__, "serve"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(str(path)) + "\n")
        self._process.stdin.flush()
        if select.select([self._process.stdout], [], [], TIMEOUT_S)[0] and (line := self._process.stdout.readline()):
            result: dict[str, Any] = json.loads(line)
            return result
        self._process.kill()
        status, self._process = self._process.wait(), None
        return {"died": "time limit" if status == -signal.SIGKILL else f"exit {status}"}


def read_ours(path: str) -> dict[str, Any]:
    from curate.clip import Fault
    from curate.config import Decode
    from curate.errors import SourceError
    from curate.media.open import open_reader
    from curate.scan import ScanReport, unaccounted

    try:
        reader = open_reader(path, Decode())
    except SourceError as error:
        return {"status": "failed", "faults": [[type(error).__name__, str(error).removeprefix(f"{path}: ")]], "num_frames": 0}
    report = ScanReport()
    times: list[int] = []
    sizes: list[tuple[int, int]] = []
    for item in reader.frames():
        if isinstance(item, Fault):
            report.faults.append(item)
            continue
        times.append(item.time_ns)
        if (size := item.picture.geometry.displayed) not in sizes:
            sizes.append(size)
    reader.close()
    report.num_frames, report.num_packets, report.account = len(times), reader.packets.num_packets, reader.account()
    if fault := unaccounted(report):
        report.faults.append(fault)
    account = report.account
    return {
        "status": "damaged" if report.faults else "ok",
        "faults": [[fault.kind, fault.message] for fault in report.faults[:4]],
        "num_faults": len(report.faults),
        "num_frames": len(times),
        "num_packets": report.num_packets,
        "goes_forward": all(b > a for a, b in pairwise(times)),
        "span_s": (times[-1] - times[0]) / 1e9 if times else None,
        "sizes": sizes[:4],
        "rotation": reader.probe.geometry.orientation.degrees_clockwise,
        "container": reader.probe.container.split(",")[0],
        "codec": reader.probe.codec,
        "account": {name: value for name, value in asdict(account).items() if value} if account else None,
    }


def read_plainly(path: str) -> dict[str, Any]:
    """PyAV and nothing else: every frame that comes, and whatever FFmpeg complains about."""
    import av

    logging.getLogger("libav").setLevel(logging.CRITICAL + 1)
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    num_frames, errors, found = 0, 0, {}
    with av.logging.Capture() as lines:
        try:
            with av.open(path, metadata_errors="replace") as container:
                stream = container.streams.best("video")
                if stream is None:
                    return {"num_frames": 0, "error": "no video stream"}
                found = {"container": container.format.name.split(",")[0], "codec": stream.codec_context.name, "index": stream.index}
                stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
                for packet in container.demux(stream):
                    if not packet.size and packet.dts is not None:
                        continue  # PyAV would flush the decoder; ffmpeg's own tools pass these over
                    try:
                        num_frames += len(packet.decode())
                    except av.error.FFmpegError:
                        errors += 1
        except Exception as error:  # noqa: BLE001 - whatever PyAV raises is this file's result
            return {**found, "num_frames": num_frames, "num_errors": errors, "error": f"{type(error).__name__}: {error}"[:200]}
    codec = found["codec"]
    logged = [text.strip() for level, name, text in lines if level <= av.logging.ERROR and name == codec]
    return {**found, "num_frames": num_frames, "num_errors": errors, "num_lines": len(logged), "lines": logged[:3]}


def probe(path: Path) -> dict[str, Any]:
    """Size, rotation and packets by ffprobe, of the stream that players take."""
    command = ["ffprobe", "-v", "error", "-count_packets", "-select_streams", "v", "-show_streams", "-of", "json", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, check=False)
        streams = json.loads(done.stdout or "{}").get("streams", [])
    except (subprocess.TimeoutExpired, ValueError):
        return {}
    keys = ("index", "width", "height", "nb_read_packets", "sample_aspect_ratio", "codec_name")
    return {
        "streams": [
            {key: stream.get(key) for key in keys}
            | {"rotation": next((side["rotation"] for side in stream.get("side_data_list", []) if "rotation" in side), 0)}
            for stream in streams
        ]
    }


def print_tables(rows: list[dict[str, Any]]) -> None:
    many = [row for row in rows if is_film(row)]
    for title, some in (("all files", rows), (f"files of {STILL_FRAMES} frames and more", many)):
        print(f"\n### {title}: {len(some)}\n")
        print_counts(some)
    print("\n### by container and codec\n")
    print_groups(rows)
    print("\n### every rest\n")
    for row in rows:
        if why := deviation(row):
            ours, plain = row.get("ours", {}), row.get("plain", {})
            faults = "; ".join(f"{kind}: {message}" for kind, message in ours.get("faults", [])[:1])
            print(f"- `{row['path']}`: {why}; ours {ours.get('num_frames')}, plain {plain.get('num_frames')}; {faults}")


def is_film(row: dict[str, Any]) -> bool:
    return max(row.get("ours", {}).get("num_frames", 0), row.get("plain", {}).get("num_frames", 0)) >= STILL_FRAMES


def is_clean(row: dict[str, Any]) -> bool:
    plain = row.get("plain", {})
    return bool(plain.get("num_frames")) and not plain.get("error") and not plain.get("num_errors") and not plain.get("num_lines")


def shown_as_probed(row: dict[str, Any]) -> bool:
    """The first picture's displayed size and turn are those of a stream by ffprobe. (Which stream is for `missing` to tell.)"""
    width, height = row["ours"]["sizes"][0]
    for stream in row["ffprobe"]["streams"]:
        num, den = (int(part) for part in (stream.get("sample_aspect_ratio") or "1:1").split(":"))
        aspect = Fraction(num, den) if num and den else Fraction(1)
        shown = (round((stream["width"] or 0) * aspect), stream["height"] or 0)
        turn = -round(stream["rotation"]) % 360
        sides = (shown[1], shown[0]) if turn in (90, 270) else shown
        if max(abs(width - sides[0]), abs(height - sides[1])) <= 1 and row["ours"]["rotation"] == turn:
            return True
    return False


def status_of(row: dict[str, Any]) -> str:
    return str(row["ours"]["status"]) if "ours" in row else "died"


def missing_share(row: dict[str, Any]) -> float:
    plain, ours = row.get("plain", {}).get("num_frames", 0), row.get("ours", {}).get("num_frames", 0)
    return (plain - ours) / plain if plain else 0.0


def deviation(row: dict[str, Any]) -> str | None:
    if "died" in row:
        return row["died"]
    ours = row["ours"]
    if ours["status"] == "ok" and missing_share(row) > 0.02:
        return "ok with more than 2 % missing"
    if ours["status"] == "ok" and missing_share(row):
        return "ok with another count"
    if is_clean(row) and ours["status"] != "ok":
        return f"clean, and {ours['status']}"
    if not ours.get("goes_forward", True):
        return "times that do not go forward"
    if ours.get("sizes") and row["ffprobe"].get("streams") and not shown_as_probed(row):
        return f"shown as {ours['sizes'][0]}, turned by {ours['rotation']}; ffprobe has another size or rotation"
    return None


def print_counts(rows: list[dict[str, Any]]) -> None:
    readable = [row for row in rows if row.get("plain", {}).get("num_frames")]
    clean = [row for row in readable if is_clean(row)]
    other = [row for row in readable if not is_clean(row)]
    ok = [row for row in rows if status_of(row) == "ok"]
    equal = [row for row in clean if missing_share(row) == 0]
    probed = [row for row in rows if row.get("ours", {}).get("sizes") and row["ffprobe"].get("streams")]
    lines = {
        "a plain decode gives frames": len(readable),
        "and is clean": len(clean),
        "clean files that are ok": f"{sum(status_of(row) == 'ok' for row in clean)} of {len(clean)}",
        "clean files with an equal count": f"{len(equal)} of {len(clean)}",
        "ok files with an equal count": f"{sum(missing_share(row) == 0 for row in ok)} of {len(ok)}",
        "ok files with more than 2 % missing": sum(missing_share(row) > 0.02 for row in ok),
        "not clean, and not ok": f"{sum(status_of(row) != 'ok' for row in other)} of {len(other)}",
        "size and rotation as ffprobe says": f"{sum(shown_as_probed(row) for row in probed)} of {len(probed)}",
        "crashes and hangs": sum("died" in row for row in rows),
    }
    for name, value in lines.items():
        print(f"| {name} | {value} |")
    print(f"| status | {dict(Counter(status_of(row) for row in rows))} |")


def print_groups(rows: list[dict[str, Any]]) -> None:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        plain = row.get("plain", {})
        if plain.get("num_frames"):
            groups[plain["container"], plain["codec"]].append(row)
    print("| container | codec | files | count equal | differs by up to 2 % | by more | clean | clean and ok |")
    print("|---|---|---|---|---|---|---|---|")
    for (container, codec), some in sorted(groups.items(), key=lambda item: -len(item[1])):
        shares = [abs(missing_share(row)) for row in some]
        clean = [row for row in some if is_clean(row)]
        num_ok = sum(status_of(row) == "ok" for row in clean)
        equal, small = sum(s == 0 for s in shares), sum(0 < s <= 0.02 for s in shares)
        print(f"| {container} | {codec} | {len(some)} | {equal} | {small} | {len(some) - equal - small} | {len(clean)} | {num_ok} |")


if __name__ == "__main__":
    main()
