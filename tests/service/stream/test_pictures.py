"""The child that decodes a stream's pictures: how long it is kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.inputs.media.media import MediaError, MediaLimits
from service.sandbox.sandbox import CPU_SHARE
from service.stream.pictures import CHILD_S, RENEW_AFTER_S, PictureDecoder

LIMITS = MediaLimits(max_duration_s=10.0, max_pixels=10_000, max_frames=10)


class Children:
    """Opens decoders, and writes down how each ended."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.given_s: list[float] = []
        self.ended: list[str] = []

    @contextmanager
    def open(self, left_s: float) -> Iterator[Any]:
        self.given_s.append(left_s)
        try:
            yield SimpleNamespace(decode_picture=self.decode)
        except MediaError as error:
            self.ended.append(error.code)
            raise
        else:
            self.ended.append("ok")

    def decode(self, data: bytes, limits: MediaLimits) -> NDArray[np.uint8]:
        if data == b"damaged":
            raise MediaError("unreadable_media", "damaged")
        return np.zeros((2, 2, limits.max_pixels > 0 and 3), np.uint8)


@pytest.fixture
def children() -> Children:
    return Children()


@pytest.fixture
def decoder(children: Children) -> PictureDecoder:
    return PictureDecoder(children.open, LIMITS, clock=lambda: children.now_s)


def test_no_child_is_had_before_there_is_a_picture(children: Children, decoder: PictureDecoder) -> None:
    decoder.close()

    assert children.given_s == []


def test_a_child_is_renewed_before_its_processor_time_can_be_over(children: Children, decoder: PictureDecoder) -> None:
    for _ in range(3 * 60 + 1):  # an hour and more, a picture every 20 s
        decoder.decode(b"whole")
        children.now_s += 20.0
    decoder.close()

    assert len(children.given_s) == len(children.ended) == 12  # 16 pictures of 320 s each
    assert set(children.ended) == {"ok"}
    assert CPU_SHARE * CHILD_S > RENEW_AFTER_S + 20.0


def test_a_child_that_was_refused_a_picture_is_the_next_one_s_no_more(
    children: Children, decoder: PictureDecoder
) -> None:
    decoder.decode(b"whole")
    for _ in range(2):
        with pytest.raises(MediaError):
            decoder.decode(b"damaged")
    decoder.decode(b"whole")
    decoder.close()

    assert children.ended == ["unreadable_media", "unreadable_media", "ok"]
