"""File names that a shell, a printf, a URL parser or ffmpeg would read as something else, and what a folder holds beside plain files."""

import os
import socket
from pathlib import Path

from faults.material import Kind, encoded, failed

NAMES = [
    "with space.mp4",
    " space first.mp4",
    "single ' quote.mp4",
    'double " quote.mp4',
    "new\nline.mp4",
    "tab\tstop.mp4",
    "return\r.mp4",
    "escape \x1b[31m.mp4",
    "100%.mp4",
    "frame%03d.mp4",
    "%s%n%x.mp4",
    "%2e%2e%2f.mp4",
    "emoji \N{CLAPPER BOARD}\N{ZERO WIDTH JOINER}.mp4",
    "ünïcödé 日本語.mp4",
    "decomposed e\N{COMBINING ACUTE ACCENT}.mp4",
    "right to left \N{RIGHT-TO-LEFT OVERRIDE}4pm.mp4",
    "-dash.mp4",
    "--help.mp4",
    "semi;colon && true.mp4",
    "$HOME $(id) `id`.mp4",
    "back\\slash.mp4",
    "star * question ?.mp4",
    "[set] {brace}.mp4",
    "pipe | great > less <.mp4",
    "hash # query ?a=b&c=d.mp4",
    "concat:a.mp4|b.mp4",
    "http:x.mp4",
    "file:x.mp4",
    "subfile,,start,0,end,0,,:x.mp4",
    "C:\\video.mp4",
    "~.mp4",
    "UPPER.MP4",
    "two.dots..mp4",
    f"{'long ' * 48}.mp4",
    "folder %d/sub folder/-.mp4",
    "s3:/bucket/x.mp4",
]

KINDS = [Kind(name, lambda: encoded("mp4")) for name in NAMES]

LINKED = [
    failed("dangling.mp4", bytes, "No such file"),
    failed("loop.mp4", bytes, "Too many levels"),
    Kind("link.mp4", bytes),
    Kind("hard_link.mp4", bytes),
    Kind("copy.mp4", bytes),
    Kind("folder.mp4/inside.mp4", bytes),
]
"""What `link` puts into a folder that is listed, beside what it puts there that is not."""

NOT_LISTED = ["pipe.mp4", "socket.mp4", ".hidden.mp4", "notes.txt", "not_utf8_\udcff.mp4", "no_extension", "around/link.mp4", "device.mp4"]


def link(folder: Path) -> None:
    """One file under several names, links that lead nowhere, round and to folders, a pipe, a socket, names that are not taken."""
    content = encoded("mp4")
    original = folder / "copy.mp4"
    original.write_bytes(content)
    (folder / "link.mp4").symlink_to("copy.mp4")
    os.link(original, folder / "hard_link.mp4")
    (folder / "dangling.mp4").symlink_to("nowhere.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "around").symlink_to(".")
    (folder / "folder.mp4").mkdir()
    (folder / "folder.mp4" / "inside.mp4").write_bytes(content)
    os.mkfifo(folder / "pipe.mp4")
    (folder / "device.mp4").symlink_to("/dev/zero")
    for name in (".hidden.mp4", "notes.txt", "not_utf8_\udcff.mp4", "no_extension"):
        (folder / name).write_bytes(content)
    # A path in a socket's address holds a hundred bytes.
    place = os.getcwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("socket.mp4")
    finally:
        os.chdir(place)
