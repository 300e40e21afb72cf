"""Pictures: told apart by content, turned as their EXIF says, bombs refused unopened."""

import io
import struct
import zlib

import numpy as np
import pytest

from models.inputs.media.media import MediaError, MediaLimits, decode_picture

LIMITS = MediaLimits()

ENCODERS = {"jpeg": ("mjpeg", "yuvj444p"), "png": ("png", "rgb24"), "webp": ("libwebp", "bgra")}


def exif_block(orientation, order):
    directory = struct.pack(order + "HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8) + directory


def png_chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_exif(kind, picture, block):
    if kind == "jpeg":
        body = b"Exif\0\0" + block
        return picture[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + picture[2:]
    if kind == "png":
        return picture[:33] + png_chunk(b"eXIf", block) + picture[33:]
    width, height = 63, 47  # less one
    canvas = struct.pack("<IHBHB", 0x08, width, 0, height, 0)
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + picture[12:]
    body += b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


# TIFF 6.0: where the stored picture's first row and column are displayed → corners as displayed
EXIF = {1: "RG BW", 2: "GR WB", 3: "WB GR", 4: "BW RG", 5: "RB GW", 6: "BR WG", 7: "WG BR", 8: "GW RB"}


@pytest.mark.parametrize(("orientation", "displayed"), EXIF.items())
@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("order", ["<", ">"], ids=["little endian", "big endian"])
def test_a_picture_is_turned_as_its_exif_says(
    kind, orientation, displayed, order, corners, read_corners, write_picture
):
    picture = write_picture(corners(48, 64), *ENCODERS[kind])

    rgb = decode_picture(with_exif(kind, picture, exif_block(orientation, order)), LIMITS)

    assert read_corners(rgb) == displayed
    assert rgb.shape == ((64, 48, 3) if orientation > 4 else (48, 64, 3))


@pytest.mark.parametrize("kind", ["jpeg", "webp"])  # FFmpeg refuses a PNG for that
@pytest.mark.parametrize("block", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", exif_block(9, "<"), exif_block(0, ">")])
def test_exif_that_makes_no_sense_leaves_the_picture_upright(kind, block, corners, read_corners, write_picture):
    picture = write_picture(corners(), *ENCODERS[kind])

    assert read_corners(decode_picture(with_exif(kind, picture, block), LIMITS)) == "RG BW"


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("size", [(1, 1), (27, 35), (1, 300)])
def test_pictures_of_any_size_keep_size_and_colour(kind, size, write_picture):
    colour = (200, 40, 90)
    rgb = decode_picture(write_picture(np.full((*size, 3), colour, np.uint8), *ENCODERS[kind]), LIMITS)

    assert (rgb.shape, rgb.dtype) == ((*size, 3), np.uint8)
    assert np.abs(rgb.reshape(-1, 3) - np.array(colour)).max() <= 4


def test_alpha_is_dropped_not_blended(write_picture):
    rgba = np.full((8, 8, 4), (10, 200, 30, 0), np.uint8)

    assert (decode_picture(write_picture(rgba, "png", "rgba", "rgba"), LIMITS) == (10, 200, 30)).all()


@pytest.mark.parametrize("pix_fmt", ["gray", "gray16be", "rgb48be", "monob"])
def test_grey_and_deep_png_become_eight_bit_rgb(pix_fmt, write_picture):
    rgb = decode_picture(write_picture(np.full((8, 8, 3), 255, np.uint8), "png", pix_fmt), LIMITS)

    assert rgb.shape == (8, 8, 3)
    assert rgb.min() >= 254


def test_of_several_pictures_the_first_is_taken(corners, read_corners, write_picture):
    first, second = corners(), corners()[:, ::-1]
    pages = write_picture(first, "mjpeg", "yuvj444p") + write_picture(second, "mjpeg", "yuvj444p")

    assert read_corners(decode_picture(pages, LIMITS)) == "RG BW"


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_picture_over_the_limit_is_refused_with_both_numbers(kind, write_picture):
    picture = write_picture(np.zeros((60, 80, 3), np.uint8), *ENCODERS[kind])

    with pytest.raises(MediaError) as caught:
        decode_picture(picture, MediaLimits(max_pixels=4799))

    assert caught.value.code == "too_large"
    assert "4800" in str(caught.value)
    assert "4799" in str(caught.value)
    assert decode_picture(picture, MediaLimits(max_pixels=4800)).shape == (60, 80, 3)


def test_a_small_file_that_unpacks_to_a_huge_picture_is_refused():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(10_000_000), 9))

    with pytest.raises(MediaError, match="3600000000") as caught:
        decode_picture(bomb, LIMITS)

    assert caught.value.code == "too_large"


class Measured(io.BytesIO):
    """Tells how much of it was read."""

    read_bytes = 0

    def read(self, size=-1, /):
        data = super().read(size)
        self.read_bytes += len(data)
        return data


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_file_longer_than_any_picture_is_refused_unread(kind, write_picture):
    """Else a few pictures of an upload, each as long as all of it may be, would fill the memory."""
    picture, longest = write_picture(np.zeros((1, 1, 3), np.uint8), *ENCODERS[kind]), 8 + (1 << 20)
    limits, file = MediaLimits(max_pixels=1), Measured(picture.ljust(longest + 1, b"\0"))

    with pytest.raises(MediaError, match=f"{longest + 1} bytes; at most {longest} ") as caught:
        decode_picture(file, limits)

    assert (caught.value.code, file.read_bytes) == ("too_large", 12)
    assert decode_picture(io.BytesIO(picture.ljust(longest, b"\0")), limits).shape == (1, 1, 3)


def test_an_animated_webp_is_refused_as_what_it_is(write_picture):
    still = write_picture(np.zeros((8, 8, 3), np.uint8), *ENCODERS["webp"])
    canvas = struct.pack("<IHBHB", 0x02, 7, 0, 7, 0)
    frame = struct.pack("<HBHBHBHBI", 0, 0, 0, 0, 7, 0, 7, 0, 100) + still[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    body += 2 * (b"ANMF" + struct.pack("<I", len(frame)) + frame)

    with pytest.raises(MediaError, match="animated WebP is not accepted") as caught:
        decode_picture(b"RIFF" + struct.pack("<I", len(body)) + body, LIMITS)

    assert caught.value.code == "unsupported_media"


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_header_that_lies_about_the_size_does_not_get_past_the_decoder(kind, write_picture):
    """Two headers: the small one first, where only the size is read."""
    small = write_picture(np.zeros((8, 8, 3), np.uint8), *ENCODERS[kind])
    large = write_picture(np.zeros((600, 800, 3), np.uint8), *ENCODERS[kind])
    if kind == "jpeg":
        frame = small.index(b"\xff\xc0")
        lying = small[:2] + small[frame : frame + 19] + large[2:]
    elif kind == "png":
        lying = small[:33] + large[8:]
    else:
        canvas = struct.pack("<IHBHB", 0, 7, 0, 7, 0)
        body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + large[12:]
        lying = b"RIFF" + struct.pack("<I", len(body)) + body

    with pytest.raises(MediaError) as caught:
        decode_picture(lying, MediaLimits(max_pixels=1000))

    assert caught.value.code == "unreadable_media"


@pytest.mark.parametrize("stray", [b"\0" * 4, b"\x12\x34", b"\xff\0", b"\xff" * 3, b"\xff\x01"])
def test_stray_bytes_between_the_parts_of_a_jpeg_are_passed_over(stray, corners, read_corners, write_picture):
    """Cameras leave some, and decoders do not mind."""
    picture = with_exif("jpeg", write_picture(corners(), *ENCODERS["jpeg"]), exif_block(2, "<"))
    behind_exif, frame = 4 + int.from_bytes(picture[4:6], "big"), picture.index(b"\xff\xc0")

    for place in (behind_exif, frame):
        assert read_corners(decode_picture(picture[:place] + stray + picture[place:], LIMITS)) == EXIF[2]


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("kept", [12, 20, 30])
def test_a_picture_cut_in_its_header_is_unreadable(kind, kept, write_picture):
    picture = write_picture(np.zeros((60, 80, 3), np.uint8), *ENCODERS[kind])

    with pytest.raises(MediaError) as caught:
        decode_picture(picture[:kept], LIMITS)

    assert caught.value.code == "unreadable_media"


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(50), b"<svg/>", b"RIFF\0\0\0\0AVI " + bytes(50)])
def test_other_content_is_unsupported(data):
    with pytest.raises(MediaError, match="JPEG, PNG, WebP") as caught:
        decode_picture(data, LIMITS)

    assert caught.value.code == "unsupported_media"
