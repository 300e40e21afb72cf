"""High dynamic range and wide gamut become what the nets know: BT.709, in which white is the brightest.

A signal of BT.2100 (PQ or HLG) or BT.2020 is turned to light, relative to diffuse white: 203 cd/m² (BT.2408). The light
is expressed in BT.709's primaries, and coded for a display of gamma 2.4 (BT.1886). Skin and all else that is darker
than white look as they are meant to; what is brighter, lamps and reflections, is clipped to white.
"""

from functools import lru_cache
from typing import Final, Literal

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc
from numpy.typing import NDArray

Transfer = Literal["pq", "hlg", "gamma"]
Floats = NDArray[np.float32]

WHITE_NITS: Final = 203.0
HLG_PEAK_NITS: Final = 1000.0
HLG_GAMMA: Final = 1.2
"""BT.2100's for a display of that peak."""
GAMMA: Final = 2.4
LUMINANCE: Final = np.array([0.2627, 0.6780, 0.0593], np.float32)
"""Of BT.2020's primaries."""
TO_BT709: Final = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
"""Light of BT.2020 to light of BT.709 (BT.2407)."""
CODES: Final = 1 << 16
STRIP_PIXELS: Final = 1 << 18
"""So many at a time, as floats take much memory."""


def standard(rgb: NDArray[np.uint8], frame: VideoFrame) -> NDArray[np.uint8]:
    """`rgb` (H, W, 3), whose tags are those of `frame`, as BT.709; itself where it is of the usual kind."""
    transfer, wide = transfer_of(frame), frame.color_primaries == ColorPrimaries.BT2020
    if transfer == "gamma" and not wide:
        return rgb
    result = np.empty_like(rgb)
    rows = max(1, STRIP_PIXELS // rgb.shape[1])
    for top in range(0, len(rgb), rows):
        result[top : top + rows] = coded(light(rgb[top : top + rows], transfer, wide))
    return result


def transfer_of(frame: VideoFrame) -> Transfer:
    if frame.color_trc == ColorTrc.SMPTE2084:
        return "pq"
    return "hlg" if frame.color_trc == ColorTrc.ARIB_STD_B67 else "gamma"


def light(rgb: NDArray[np.uint8], transfer: Transfer, wide: bool) -> Floats:
    """Light of BT.709's primaries, 1 for white: (H, W, 3)."""
    linear: Floats = light_of_codes(transfer)[rgb]
    if transfer == "hlg":  # so far it is the light in front of the camera
        linear *= (linear @ LUMINANCE)[..., None] ** np.float32(HLG_GAMMA - 1)
        linear *= np.float32(HLG_PEAK_NITS / WHITE_NITS)
    return linear @ TO_BT709.T if wide else linear


def coded(linear: Floats) -> NDArray[np.uint8]:
    return codes_of_light()[(linear.clip(0, 1) * np.float32(CODES - 1) + np.float32(0.5)).astype(np.uint16)]


@lru_cache
def light_of_codes(transfer: Transfer) -> Floats:
    """For each of 256 codes."""
    signal = np.arange(256) / 255
    if transfer == "pq":
        root = signal ** (32 / 2523)
        linear = (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16_384 / 2610)
        linear *= 10_000 / WHITE_NITS
    elif transfer == "hlg":
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        linear = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    else:
        linear = signal**GAMMA
    return linear.astype(np.float32)


@lru_cache
def codes_of_light() -> NDArray[np.uint8]:
    """For CODES values of light from 0 to 1."""
    return np.round(255 * np.linspace(0, 1, CODES) ** (1 / GAMMA)).astype(np.uint8)
