"""Every common codec and container this build of PyAV writes; the rest of the registered names is listed by the test that counts them."""

from functools import partial

from faults.damage import AV1, HEVC, MPEG, VP8, VP9
from faults.material import FRAMES, X264, Kind, encoded

RATE = (("b", "4000000"),)
Y420, Y422 = "yuv420p", "yuv422p"

# name: codec, pixel format, options, more
FILES: dict[str, tuple[str, str, tuple[tuple[str, str], ...], dict[str, object]]] = {
    "h264.mp4": ("libx264", Y420, X264, {}),
    "h264.mov": ("libx264", Y420, X264, {}),
    "h264.mkv": ("libx264", Y420, X264, {}),
    "h264.ts": ("libx264", Y420, X264, {}),
    "h264.m2ts": ("libx264", Y420, X264, {"muxer": "mpegts", "container": (("mpegts_m2ts_mode", "1"),)}),
    "h264.flv": ("libx264", Y420, X264, {}),
    "h264.3gp": ("libx264", Y420, X264, {}),
    "h264.avi": ("libx264", Y420, X264, {}),
    "h264.mxf": ("libx264", Y420, X264, {}),
    "h264.wmv": ("libx264", Y420, X264, {}),
    "h264_fragments.mp4": ("libx264", Y420, X264, {"container": (("movflags", "frag_keyframe+empty_moov+default_base_moof"),)}),
    "hevc.mp4": ("libx265", Y420, HEVC, {}),
    "hevc.mkv": ("libx265", Y420, HEVC, {}),
    "hevc.ts": ("libx265", Y420, HEVC, {}),
    "hevc.flv": ("libx265", Y420, HEVC, {}),
    "vp8.webm": ("libvpx", Y420, VP8, {}),
    "vp8.ivf": ("libvpx", Y420, VP8, {}),
    "vp9.webm": ("libvpx-vp9", Y420, VP9, {}),
    "vp9.mp4": ("libvpx-vp9", Y420, VP9, {}),
    "vp9.ivf": ("libvpx-vp9", Y420, VP9, {}),
    "av1.mp4": ("libsvtav1", Y420, AV1, {}),
    "av1.webm": ("libsvtav1", Y420, AV1, {}),
    "av1.ivf": ("libsvtav1", Y420, AV1, {}),
    "av1.obu": ("libsvtav1", Y420, AV1, {}),
    "mpeg1.mpg": ("mpeg1video", Y420, MPEG, {}),
    "mpeg2.mpg": ("mpeg2video", Y420, MPEG, {}),
    "mpeg2.ts": ("mpeg2video", Y420, MPEG, {}),
    "mpeg2.vob": ("mpeg2video", Y420, MPEG, {}),
    "mpeg2.mxf": ("mpeg2video", Y420, MPEG, {}),
    "mpeg4.mp4": ("mpeg4", Y420, MPEG, {}),
    "mpeg4.avi": ("mpeg4", Y420, MPEG, {}),
    "mpeg4.nut": ("mpeg4", Y420, MPEG, {}),
    "msmpeg4.avi": ("msmpeg4", Y420, MPEG, {}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", RATE, {}),
    "mjpeg.mov": ("mjpeg", "yuvj422p", RATE, {}),
    "prores.mov": ("prores_ks", "yuv422p10le", (), {}),
    "prores.mxf": ("prores_ks", "yuv422p10le", (), {}),
    "dnxhr.mov": ("dnxhd", Y422, (("profile", "dnxhr_sq"),), {"pictures": (320, 180, FRAMES)}),
    "dnxhr.mxf": ("dnxhd", Y422, (("profile", "dnxhr_sq"),), {"pictures": (320, 180, FRAMES)}),
    "ffv1.mkv": ("ffv1", Y420, (), {}),
    "ffv1.avi": ("ffv1", Y420, (), {}),
    "huffyuv.avi": ("huffyuv", Y422, (), {}),
    "utvideo.avi": ("utvideo", Y420, (), {}),
    "raw.avi": ("rawvideo", Y420, (), {}),
    "raw.nut": ("rawvideo", Y420, (), {}),
    "v210.mov": ("v210", "yuv422p10le", (), {}),
    "raw.y4m": ("wrapped_avframe", Y420, (), {}),
    "gif.gif": ("gif", "rgb8", (), {}),
    "apng.gif": ("apng", "rgb24", (), {"muxer": "apng"}),
    "qtrle.mov": ("qtrle", "rgb24", (), {}),
    "png.mov": ("png", "rgb24", (), {}),
    "jpeg2000.mxf": ("jpeg2000", Y422, (), {}),
    "jpeg2000.mov": ("jpeg2000", Y420, (), {}),
    "wmv1.wmv": ("wmv1", Y420, RATE, {}),
    "wmv2.wmv": ("wmv2", Y420, RATE, {}),
    "wmv2.asf": ("wmv2", Y420, RATE, {}),
    "flv1.flv": ("flv", Y420, RATE, {}),
    "h263.3gp": ("h263", Y420, RATE, {"pictures": (176, 144, FRAMES)}),
    "h261.avi": ("h261", Y420, RATE, {"pictures": (176, 144, FRAMES)}),
    "cinepak.avi": ("cinepak", "rgb24", (), {"pictures": (160, 88, FRAMES)}),
    "svq1.mov": ("svq1", "yuv410p", RATE, {}),
    "rv20.rm": ("rv20", Y420, RATE, {"pictures": (176, 144, FRAMES)}),
    "dv.avi": ("dvvideo", Y420, (), {"pictures": (720, 576, FRAMES)}),
    "dv.dv": ("dvvideo", Y420, (), {"pictures": (720, 576, FRAMES)}),
    "vp8.ogv": ("libvpx", Y420, VP8, {"muxer": "ogg"}),
    "cineform.mov": ("cfhd", "yuv422p10le", (), {}),
    "magicyuv.avi": ("magicyuv", Y420, (), {}),
    "snow.nut": ("snow", Y420, RATE, {}),
    "zmbv.avi": ("zmbv", "bgr0", (), {}),
    "flashsv.flv": ("flashsv", "bgr24", (), {}),
    "mpeg2.wtv": ("mpeg2video", Y420, MPEG, {"muxer": "wtv"}),
    "mpeg2_gxf.mpg": ("mpeg2video", Y420, MPEG, {"muxer": "gxf", "pictures": (720, 576, 10)}),
}


def _num_frames(more: dict[str, object]) -> int:
    _, _, num_frames = more.get("pictures", (0, 0, FRAMES))  # type: ignore[misc]
    return num_frames


KINDS = [
    Kind(name, partial(encoded, name.rpartition(".")[2], codec, pix_fmt, options, **more), frames=_num_frames(more))
    for name, (codec, pix_fmt, options, more) in FILES.items()
]
