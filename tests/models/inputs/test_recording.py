"""Pictures that were sent one by one: which is shown when, and what becomes of those that cannot be decoded."""

from types import SimpleNamespace

import pytest

from models.inputs.media import media
from models.inputs.media.container import DecoderEnded
from models.inputs.media.media import MediaError, MediaLimits
from models.inputs.recording import Recording, facts, frames

LIMITS = MediaLimits()


@pytest.fixture
def pictures_of(barcode, write_picture):
    """pictures_of("0x2"): pictures with these numbers, and one cut short for each `x`."""

    def make(word):
        whole = [write_picture(barcode(place), "png", "rgb24") for place in range(len(word))]
        return [picture[:60] if sign == "x" else picture for sign, picture in zip(word, whole, strict=True)]

    return make


@pytest.fixture
def shown(read_barcode):
    """shown(pictures, times_s): number and time of what is shown at each of the times, at one picture a second."""

    def show(pictures, times_s):
        recording = Recording(pictures=pictures, pictures_fps=1.0)
        found = frames(recording, times_s, LIMITS, media, lambda: None)
        return [(read_barcode(frame.rgb), frame.time_s) for frame in found]

    return show


def test_each_picture_is_shown_until_the_next(pictures_of, shown):
    assert shown(pictures_of("012"), [0.0, 0.9, 1.0, 2.5, 9.0]) == [(0, 0), (0, 0), (1, 1), (2, 2), (2, 2)]


def test_the_picture_before_damaged_ones_stays_on_show(pictures_of, shown):
    assert shown(pictures_of("0xx3"), [0.5, 1.5, 1.6, 2.5, 3.5]) == [(0, 0), (0, 0), (0, 0), (0, 0), (3, 3)]


def test_in_the_beginning_the_first_whole_picture_is_shown(pictures_of, shown):
    assert shown(pictures_of("xx23"), [0.5, 1.5, 2.5, 3.5]) == [(2, 2), (2, 2), (2, 2), (3, 3)]


def test_the_first_whole_picture_tells_the_size(pictures_of):
    told = facts(Recording(pictures=pictures_of("x1"), pictures_fps=2.0), LIMITS, media, lambda: None)

    assert (told.duration_s, told.fps, told.width, told.height) == (1.0, 2.0, 80, 48)


def test_where_no_picture_is_whole_the_recording_is_unreadable(pictures_of, shown):
    with pytest.raises(MediaError, match="no picture can be decoded") as caught:
        facts(Recording(pictures=pictures_of("xx")), LIMITS, media, lambda: None)
    assert caught.value.code == "unreadable_media"

    with pytest.raises(MediaError, match="no picture can be decoded"):
        shown(pictures_of("0xx"), [1.5])


def test_what_is_no_picture_is_refused_by_its_number(pictures_of, shown):
    first, _, last = pictures_of("012")

    with pytest.raises(MediaError, match=r"picture 2: .* JPEG, PNG, WebP") as caught:
        shown([first, b"a shopping list", last], [0.5, 1.5, 2.5])

    assert caught.value.code == "unsupported_media"


def test_of_two_files_the_refused_one_is_named(barcode, write_video):
    with pytest.raises(MediaError, match="the file in `audio`: the content is not one of the accepted") as caught:
        facts(Recording(video=write_video([barcode(0)]), audio=b"a letter"), LIMITS, media, lambda: None)

    assert caught.value.code == "unsupported_media"


def test_a_decoder_that_crashed_is_not_asked_again():
    asked = []

    def crash(picture, limits):  # noqa: ARG001 - as a decoder's
        asked.append(picture)
        raise DecoderEnded("unreadable_media", "the decoder crashed")

    with pytest.raises(DecoderEnded):
        facts(Recording(pictures=[b"0", b"1"]), LIMITS, SimpleNamespace(decode_picture=crash), lambda: None)

    assert asked == [b"0"]
