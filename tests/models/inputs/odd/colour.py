"""Colours: ranges, matrices, depths, subsampling, grey, and high dynamic range."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .case import Case, Wanted
from .drawing import coded
from .writing import UNTAGGED, Film, Tags, encoded, write

BT601 = {"kr": 0.299, "kb": 0.114}
BT709 = {"kr": 0.2126, "kb": 0.0722}
BT2020 = {"kr": 0.2627, "kb": 0.0593}
FINE = {"crf": "1"}
FRAMES = 12
"""With fewer libx265 now and then fails to write the film."""
PATCHES = (
    (0, 0, 0),
    (64, 64, 64),
    (128, 128, 128),
    (255, 255, 255),
    (200, 60, 60),
    (60, 180, 60),
    (60, 60, 200),
    (224, 172, 140),
)
GREYS = tuple((v, v, v) for v in (0, 32, 64, 128, 180, 255))
LIMITED, FULL = 1, 2
PQ, HLG = 16, 18
WHITE_NITS = 203.0
LIGHTS = (
    (0, 0, 0),
    (10, 10, 10),
    (50, 50, 50),
    (100, 100, 100),
    (203, 203, 203),
    (1000, 1000, 1000),
    (110, 60, 45),
    (30, 60, 90),
)
"""cd/m² of red, green and blue of BT.709."""
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""BT.2087, linear light of BT.709 to that of BT.2020."""


def pq(nits: NDArray[np.floating]) -> NDArray[np.floating]:
    """SMPTE ST 2084: light → signal."""
    y = (nits / 10_000) ** (2610 / 16_384)
    return ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


def hlg(nits: NDArray[np.floating]) -> NDArray[np.floating]:
    """BT.2100 for a display of 1000 cd/m²: what is shown → what is in front of the camera → signal."""
    shown = nits / 1000
    luminance = (shown @ [0.2627, 0.6780, 0.0593])[:, None]
    scene = shown * np.maximum(luminance, 1e-9) ** ((1 - 1.2) / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def seen(nits: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """What a picture of BT.709 holds for that light: white is 203 cd/m², and nothing is whiter."""
    codes = 255 * np.clip(np.asarray(nits, float) / WHITE_NITS, 0, 1) ** (1 / 2.4)
    return tuple(map(tuple, codes.tolist()))


def patches(
    pix_fmt: str,
    tags: Tags = UNTAGGED,
    *,
    codec: str = "libx264",
    container: str = "mp4",
    colours: Sequence[Sequence[int]] = PATCHES,
    weights: dict[str, float] = BT601,
    full: bool = False,
    options: dict[str, str] = FINE,
) -> Callable[[], bytes]:
    def make() -> bytes:
        frame = coded(np.array(colours) / 255, pix_fmt, **weights, full=full)
        return write(container, Film([frame] * FRAMES, codec, pix_fmt, tags=tags, options=options))

    return make


def light(
    encode: Callable[[NDArray[np.floating]], NDArray[np.floating]], transfer: int, codec: str = "libx264"
) -> Callable[[], bytes]:
    def make() -> bytes:
        signal = encode(np.array(LIGHTS, float) @ TO_BT2020.T)
        frame = coded(signal, "yuv444p10le", **BT2020)
        tags = Tags(9, transfer, 9, LIMITED)
        return write(
            "mp4", Film([frame] * FRAMES, codec, "yuv444p10le", tags=tags, options=FINE if codec == "libx264" else {})
        )

    return make


def wide() -> bytes:
    """BT.2020 of the usual dynamic range."""
    linear = (np.array(PATCHES) / 255) ** 2.4
    frame = coded((linear @ TO_BT2020.T) ** (1 / 2.4), "yuv444p10le", **BT2020)
    return write("mp4", Film([frame] * FRAMES, pix_fmt="yuv444p10le", tags=Tags(9, 14, 9, LIMITED), options=FINE))


def from_rgb(codec: str, pix_fmt: str, container: str, options: dict[str, str]) -> Callable[[], bytes]:
    def make() -> bytes:
        columns = np.arange(64) * len(PATCHES) // 64
        rgb = np.broadcast_to(np.array(PATCHES, np.uint8)[columns][None], (48, 64, 3))
        return write(container, Film([np.ascontiguousarray(rgb)] * FRAMES, codec, pix_fmt, options=options))

    return make


def png(pix_fmt: str) -> Callable[[], bytes]:
    columns = np.arange(64) * len(GREYS) // 64
    rgb = np.ascontiguousarray(np.broadcast_to(np.array(GREYS, np.uint8)[columns][None], (48, 64, 3)))
    return lambda: encoded(rgb, "png", pix_fmt)


coloured = Wanted(columns=PATCHES, within=4)
grey = Wanted(columns=GREYS)
inconvertible = Wanted(refused="unreadable_media", says=("colours",))
UNSURE = Tags(3, 3, 3, LIMITED)
"""Values that H.273 reserves."""

CASES = [
    Case("limited and full range", "limited", patches("yuv420p", Tags(range=LIMITED), colours=GREYS), grey),
    Case("limited and full range", "untagged", patches("yuv420p", colours=GREYS), grey),
    Case("limited and full range", "full", patches("yuv420p", Tags(range=FULL), colours=GREYS, full=True), grey),
    Case(
        "limited and full range",
        "full, motion JPEG",
        patches(
            "yuvj420p",
            Tags(range=FULL),
            codec="mjpeg",
            container="avi",
            colours=GREYS,
            full=True,
            options={"qmin": "1", "qscale": "1"},
        ),
        grey,
    ),
    Case(
        "limited and full range",
        "full, 10 bit",
        patches("yuv420p10le", Tags(range=FULL), colours=GREYS, full=True),
        grey,
    ),
    Case("matrices", "BT.601", patches("yuv444p", Tags(6, 6, 6, LIMITED)), coloured),
    Case("matrices", "BT.709", patches("yuv444p", Tags(1, 1, 1, LIMITED), weights=BT709), coloured),
    Case("matrices", "untagged", patches("yuv444p"), coloured),
    Case("matrices", "reserved values", patches("yuv444p", UNSURE), coloured),
    Case("matrices", "one that is not converted", patches("yuv444p", Tags(9, 16, 14, LIMITED)), inconvertible),
    Case("depth and chroma", "10 bit, 4:2:0", patches("yuv420p10le"), coloured),
    Case("depth and chroma", "10 bit, 4:4:4", patches("yuv444p10le"), coloured),
    Case("depth and chroma", "10 bit, HEVC", patches("yuv420p10le", codec="libx265", options={"crf": "1"}), coloured),
    Case(
        "depth and chroma",
        "12 bit, 4:4:4, HEVC",
        patches("yuv444p12le", codec="libx265", options={"crf": "1"}),
        coloured,
    ),
    Case(
        "depth and chroma",
        "10 bit, 4:2:2, ProRes",
        patches("yuv422p10le", codec="prores_ks", container="mov", options={}),
        coloured,
    ),
    Case("depth and chroma", "4:2:2", patches("yuv422p"), coloured),
    Case("depth and chroma", "RGB in H.264", from_rgb("libx264rgb", "rgb24", "mp4", FINE), coloured),
    Case(
        "depth and chroma",
        "with alpha, ProRes",
        patches("yuva444p10le", codec="prores_ks", container="mov", options={}),
        coloured,
    ),
    Case("grey", "8 bit", patches("gray", colours=GREYS), grey),
    Case("grey", "10 bit", patches("gray10le", colours=GREYS), grey),
    Case("grey", "16 bit, PNG", png("gray16be"), grey),
    Case("grey", "with alpha, PNG", png("ya8"), grey),
    Case("HDR and BT.2020", "PQ", light(pq, PQ), Wanted(columns=seen(LIGHTS), within=6)),
    Case("HDR and BT.2020", "HLG", light(hlg, HLG), Wanted(columns=seen(LIGHTS), within=6)),
    Case("HDR and BT.2020", "PQ, HEVC", light(pq, PQ, "libx265"), Wanted(columns=seen(LIGHTS), within=10)),
    Case("HDR and BT.2020", "BT.2020 without HDR", wide, Wanted(columns=PATCHES, within=6)),
]
