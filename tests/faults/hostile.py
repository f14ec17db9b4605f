"""Files that name another file or an address, in the hope that whoever opens them goes there.

Each is made beside a canary: a video of another size, which would show in what is decoded, and whose every opening is seen.
"""

import ctypes
import http.server
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from faults.damage import MPEG
from faults.material import box, boxes, encoded, film, made
from faults.times import inserted

from curate.pipelines import footage

CANARY = (64, 48, 25)  # width, height, frames
IN_OPEN, IN_NONBLOCK = 0x20, 0x800
HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n"
HLS_KEY = HLS.replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="{}"\n#EXTINF').replace(",\n{}", ",\nhere.ts")
CONCAT = "ffconcat version 1.0\nfile '{}'\n"
MPD = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S">
<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000">
<BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>
"""
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
SMIL = '<smil xmlns="http://www.w3.org/2001/SMIL20/Language"><body><video src="{}"/></body></smil>\n'
XSPF = '<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList><track><location>{}</location></track></trackList></playlist>\n'
ASX = '<asx version="3.0"><entry><ref href="{}"/></entry></asx>\n'
PLS = "[playlist]\nFile1={}\nNumberOfEntries=1\n"
SMOOTH = '<?xml version="1.0"?>\n<SmoothStreamingMedia MajorVersion="2"><StreamIndex Url="{}"/></SmoothStreamingMedia>\n'


def canary(suffix: str) -> bytes:
    codec, options = ("libx264", (("preset", "ultrafast"),)) if suffix != "gif" else ("gif", ())
    return encoded(suffix, codec, "rgb8" if suffix == "gif" else "yuv420p", options, pictures=CANARY)


def with_alias(data: bytes, name: str) -> bytes:
    """An MP4 whose media data lie in another file: a `dref` entry with a Macintosh alias, as QuickTime reference movies have."""
    path = name.encode()
    record = struct.pack(">HH", 2, len(path)) + path + b"\0" * (len(path) % 2) + struct.pack(">HH", 0xFFFF, 0)
    alias = bytes(10) + bytes([1]) + b"x".ljust(27, b"\0") + bytes(12)
    alias += bytes([len(path)]) + path.ljust(63, b"\0") + bytes(16) + struct.pack(">HH", 1, 1) + bytes(16) + record
    return with_reference(data, box(b"alis", bytes(4), alias))


def with_url(data: bytes, url: str) -> bytes:
    """The same with a `url ` entry."""
    return with_reference(data, box(b"url ", bytes(4), url.encode() + b"\0"))


def with_reference(data: bytes, entry: bytes) -> bytes:
    at = boxes(data, b"dref")[0]
    (size,) = struct.unpack(">I", data[at - 8 : at - 4])
    return inserted(data, at + 8, size - 16, entry)


def with_reference_movie(target: str) -> bytes:
    """A QuickTime file that is nothing but a pointer to another (`rmra`)."""
    reference = box(b"rdrf", struct.pack(">I4sI", 0, b"url ", len(target) + 1), target.encode() + b"\0")
    return box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + box(b"moov", box(b"rmra", box(b"rmda", reference)))


def with_next_segment(name: str) -> bytes:
    """A Matroska file that names the file to be played after it (NextFilename, in the place of WritingApp)."""
    data, old = encoded("mkv"), b"\x57\x41\x84Lavf"
    assert old in data and len(name) == 3
    return data.replace(old, b"\x3e\x83\xbb\x83" + name.encode())


def with_subtitle(text: bytes) -> bytes:
    """An AVI with a subtitle stream that holds a whole file (GAB2), which the demuxer opens in its turn."""
    payload = b"GAB2\0" + struct.pack("<HI", 2, 2) + b"a\0" + struct.pack("<HI", 4, len(text)) + text

    def build(path: Path) -> None:
        with av.open(str(path), "w") as target:
            target.flags |= footage.BITEXACT
            streams = [target.add_stream("mpeg4", rate=25, options=dict(MPEG)) for _ in range(2)]
            for stream in streams:
                stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
            for n, picture in enumerate(film()):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = n, Fraction(1, 25)
                target.mux(streams[0].encode(frame))
                if n == 0:
                    packet = av.Packet(payload)
                    packet.stream, packet.time_base, packet.pts, packet.dts, packet.duration = streams[1], Fraction(1, 25), 0, 0, 40
                    target.mux(packet)
            target.mux(streams[0].encode(None))

    data = made("avi", build)
    second = data.index(b"strh", data.index(b"strh") + 4) + 8
    assert data[second : second + 4] == b"vids"
    return (data[:second] + b"txts" + data[second + 4 :]).replace(b"01dc", b"01tx")


def behind(text: str, suffix: str) -> bytes:
    """A real stream after the lines of a playlist: what a reader takes it for depends on the reader."""
    data = canary(suffix) if suffix == "gif" else encoded(suffix, *(("mpeg2video", "yuv420p", MPEG) if suffix == "mpg" else ()))
    return text.encode().ljust(188 * 4, b"\n") + data


def lines(text: str, folder: Path, url: str) -> dict[str, bytes]:
    """A text pointing at the canary file and at the canary server."""
    places = {"file": f"file://{folder}/canary.ts", "near": "canary.ts", "http": f"{url}/a.ts"}
    return {name: text.format(place).encode() for name, place in places.items()}


def files(folder: Path, url: str) -> dict[str, bytes]:
    """Name -> content, for a folder that holds the canaries and a server's address. What is `ok` in its own right begins with `own_`."""
    found = {}
    texts = {"hls": HLS, "hls_key": HLS_KEY, "concat": CONCAT, "dash": MPD, "smil": SMIL, "xspf": XSPF, "asx": ASX, "pls": PLS}
    texts["smooth"] = SMOOTH
    for name, text in texts.items():
        for where, content in lines(text, folder, url).items():
            found[f"{name}_{where}.mp4"] = content
    for suffix in ("m3u8", "ts", "mkv", "mov"):
        found[f"hls.{suffix}"] = HLS.format("canary.ts").encode()
    found |= {"dash.mpd": MPD.format(f"{url}/a.mp4").encode(), "list.ffconcat": CONCAT.format("canary.mp4").encode()}
    found |= {"sdp.mp4": SDP.encode(), "sdp.sdp": SDP.encode(), "subfile.mp4": f"subfile,,start,0,end,0,,:{folder}/canary.mp4".encode()}
    found |= {"alias.mp4": with_alias(encoded("mp4"), "canary.mp4"), "pointer.mov": with_reference_movie(f"{url}/a.mov")}
    found |= {
        "own_url.mp4": with_url(encoded("mp4"), f"file://{folder}/canary.mp4"),
        "own_http.mp4": with_url(encoded("mp4"), f"{url}/a.mp4"),
        "own_next.mkv": with_next_segment("c.k"),
        "own_gab2_hls.avi": with_subtitle(HLS.format(f"{url}/a.ts").encode()),
        "own_gab2_concat.avi": with_subtitle(CONCAT.format(f"{folder}/canary.mp4").encode()),
        "own_behind_hls.mp4": behind(HLS.format("canary.ts"), "ts"),
        "own_behind_hls.ts": behind(HLS.format(f"{url}/a.ts"), "ts"),
        "own_behind_hls.mpg": behind(HLS.format("canary.ts"), "mpg"),
        "own_behind_hls.h264": behind(HLS.format("canary.ts"), "h264"),
    }
    return found


def put_canaries(folder: Path) -> list[Path]:
    """The canaries, under every name that a file above may lead to."""
    names = {"canary.ts": "ts", "canary.mp4": "mp4", "c.k": "mkv", "here.ts": "ts", "frame001.gif": "gif", "frame000.gif": "gif"}
    for name, suffix in names.items():
        (folder / name).write_bytes(canary(suffix))
    return [folder / name for name in names]


@contextmanager
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine: its address, and the requests it saw."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(canary("ts"))

        def log_message(self, *words: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", seen
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


@contextmanager
def watched(paths: list[Path]) -> Iterator[list[int]]:
    """How often each of the files is opened, by anybody, while the context lasts (Linux inotify); filled at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(IN_NONBLOCK)
    assert handle >= 0, os.strerror(ctypes.get_errno())
    opened: list[int] = []
    try:
        for path in paths:
            assert libc.inotify_add_watch(handle, os.fsencode(path), IN_OPEN) > 0, os.strerror(ctypes.get_errno())
        yield opened
        try:
            events = os.read(handle, 1 << 16)
        except BlockingIOError:
            events = b""
        opened += [1] * (len(events) // 16)
    finally:
        os.close(handle)


def sizes(path_or_file: object, **options: str) -> set[tuple[int, int]]:
    """What a reader without any care would see: sizes of the decoded pictures."""
    with av.open(path_or_file, options=options) as container:
        return {(frame.width, frame.height) for frame in container.decode(video=0)}
