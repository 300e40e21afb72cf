"""What is refused by a file's headers alone: other files, an index for millions of frames, and too much metadata."""

import io
import struct

import av
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.inputs.media.media import MediaError, MediaLimits, probe
from models.inputs.media.structure import MAX_PARTS, Structure, examine

LIMITS = MediaLimits()
FEW = MediaLimits(max_metadata_bytes=4000)
TITLE = "x" * 5000


def box(name: bytes, *content: bytes) -> bytes:
    """ISO 14496-12, 4.2."""
    payload = b"".join(content)
    return struct.pack(">I4s", 8 + len(payload), name) + payload


def track(handler: bytes, *inside: bytes) -> bytes:
    hdlr = box(b"hdlr", bytes(8) + handler + bytes(12))
    return box(b"trak", box(b"mdia", hdlr, box(b"minf", *inside)))


def movie(*tracks: bytes) -> bytes:
    return box(b"ftyp", b"qt  \0\0\0\0") + box(b"moov", *tracks)


def reference(kind: bytes, flags: int, location: bytes) -> bytes:
    return box(b"dinf", box(b"dref", bytes(4), struct.pack(">I", 1), box(kind, struct.pack(">I", flags), location)))


def refusal(source: bytes, limits: MediaLimits = LIMITS) -> MediaError:
    with pytest.raises(MediaError) as caught:
        probe(source, limits)
    return caught.value


@pytest.mark.parametrize(
    "film",
    [
        movie(track(b"vide", reference(b"url ", 0, b"file:///etc/passwd\0"))),
        movie(track(b"soun", reference(b"url ", 0, b"http://169.254.169.254/latest\0"))),
        movie(track(b"vide", reference(b"urn ", 0, b"name\0/etc/passwd\0"))),
        movie(track(b"vide", reference(b"alis", 0, bytes(150)))),
        movie(track(b"vide"), track(b"soun", reference(b"alis", 0, bytes(150)))),
        movie(box(b"rmra", box(b"rmda", box(b"rdrf", bytes(4), b"url ", b"\0\0\0\x05a.mov")))),
    ],
    ids=["file", "http", "urn", "alias", "alias of the second track", "reference movie"],
)
def test_a_film_whose_content_lies_elsewhere_is_unsupported(film):
    refused = refusal(film)

    assert refused.code == "unsupported_media"
    assert "another file" in str(refused)
    assert "etc" not in str(refused)


def test_an_external_reference_in_a_whole_film_is_found(write_video, barcode):
    film = write_video([barcode(1)] * 3)
    whole = reference(b"url ", 1, b"")
    assert film.count(whole) == 1
    moov, end = film.index(b"moov") - 4, len(film)
    longer = reference(b"url ", 0, b"file:///etc/passwd\0")
    grown = bytearray(film.replace(whole, longer))
    for name in (b"moov", b"trak", b"mdia", b"minf"):  # each of them holds the next, and all are longer now
        at = grown.index(name, moov) - 4
        size = int.from_bytes(grown[at : at + 4], "big") + len(longer) - len(whole)
        grown[at : at + 4] = size.to_bytes(4, "big")

    assert len(grown) > end
    assert refusal(bytes(grown)).code == "unsupported_media"


@pytest.mark.parametrize(("flags", "location"), [(1, b""), (0, b""), (1, b"file:///etc/passwd\0")])
def test_a_reference_to_the_file_itself_or_to_nothing_is_none(flags, location):
    film = io.BytesIO(movie(track(b"vide", reference(b"url ", flags, location))))

    assert not examine(film).refers_elsewhere


def test_frames_are_counted_in_the_index_before_memory_is_taken_for_them():
    """A file of 200 bytes that declares two thousand million frames."""
    index = box(b"stbl", box(b"stsz", bytes(4), struct.pack(">II", 1, 2_000_000_000)))
    refused = refusal(movie(track(b"vide", index)))

    assert refused.code == "too_large"
    assert "2000000000 frames" in str(refused)
    assert "36000" in str(refused)


def test_samples_of_sound_are_no_frames():
    index = box(b"stbl", box(b"stsz", bytes(4), struct.pack(">II", 1, 40_000_000)))

    assert examine(io.BytesIO(movie(track(b"soun", index)))) == Structure()


def titled(container: str, codec: str, write_sound, tone) -> bytes:
    """Half a second of sound with a title of 5,000 letters."""
    source, file = io.BytesIO(write_sound(tone(440, 0.5, 48_000), 48_000, "wav", "pcm_s16le")), io.BytesIO()
    with av.open(source) as played, av.open(file, "w", format=container) as output:
        output.metadata["title"] = TITLE
        stream = output.add_stream(codec, rate=48_000)
        to_format = av.AudioResampler(
            format=stream.codec_context.format.name,
            layout=stream.codec_context.layout.name,
            rate=48_000,
            frame_size=stream.codec_context.frame_size,
        )
        for frame in played.decode(audio=0):
            for converted in to_format.resample(frame):
                output.mux(stream.encode(converted))
        for converted in to_format.resample(None):
            output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "aac"),
        ("matroska", "flac"),
        ("mp3", "libmp3lame"),
        ("flac", "flac"),
        ("wav", "pcm_s16le"),
        ("ogg", "libopus"),
        ("avi", "libmp3lame"),
    ],
)
def test_too_much_metadata_is_refused_with_both_numbers_in_every_container(container, codec, write_sound, tone):
    file = titled(container, codec, write_sound, tone)
    refused = refusal(file, FEW)

    assert refused.code == "too_large"
    assert "bytes of metadata" in str(refused)
    assert "4000" in str(refused)
    assert probe(file, MediaLimits(max_metadata_bytes=100_000)).has_audio


@pytest.mark.parametrize(
    ("head", "declared"),
    [
        (b"ID3\x04\0\0\x7f\x7f\x7f\x7f", (1 << 28) - 1),
        (b"fLaC\0\0\0\x22" + bytes(34) + b"\x86\xff\xff\xff", (1 << 24) - 1),
    ],
    ids=["id3", "flac"],
)
def test_a_tag_counts_as_long_as_it_says_it_is(head, declared):
    assert examine(io.BytesIO(head)).metadata_bytes == declared
    assert refusal(head).code == ("too_large" if declared > LIMITS.max_metadata_bytes else "unreadable_media")


def test_attachments_count_among_metadata_and_clusters_do_not():
    attachments, cluster = b"\x19\x41\xa4\x69", b"\x1f\x43\xb6\x75"  # Matroska's identifiers
    segment = attachments + b"\x85" + bytes(5) + cluster + b"\x84" + bytes(4) + attachments + b"\x40\x03" + bytes(3)
    file = b"\x1aE\xdf\xa3\x80" + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + segment

    assert examine(io.BytesIO(file)).metadata_bytes == 5 + 3


def test_boxes_within_boxes_are_walked_through_without_recursion():
    depth = 50_000
    deep = b"".join(struct.pack(">I4s", 8 * (depth - i), b"moov") for i in range(depth))

    assert examine(io.BytesIO(deep)) == Structure()


def test_a_file_of_nothing_but_boxes_is_given_up_after_a_while():
    class Counted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            return super().read(size)

    file = Counted(box(b"moov") * (3 * MAX_PARTS))
    examine(file)

    assert file.reads < 2.1 * MAX_PARTS


HEADS = [b"\0\0\0\x08moov", b"\x1aE\xdf\xa3\x80\x18\x53\x80\x67\xff", b"RIFF\0\0\0\0WAVE", b"ID3\x04\0\0\0\0\0\0fLaC"]


@settings(max_examples=200)
@given(head=st.sampled_from(HEADS), rest=st.binary(max_size=200))
@example(head=b"\0\0\0\x01moov", rest=b"\xff" * 8)
@example(head=b"", rest=b"")
def test_any_bytes_can_be_examined(head, rest):
    found = examine(io.BufferedReader(io.BytesIO(head + rest)))

    assert found.metadata_bytes >= 0
    assert 0 <= found.frames < 1 << 32


@settings(max_examples=200)
@given(rest=st.binary(max_size=60))
@example(rest=bytes(8) + struct.pack(">I4sQ", 1, b"url ", 16))  # ends within its own header
@example(rest=bytes(8) + struct.pack(">I4s", 1 << 31, b"url "))
def test_any_references_can_be_examined(rest):
    film = movie(track(b"vide", box(b"dinf", box(b"dref", rest))))
    strict = io.BufferedReader(io.BytesIO(film))  # which refuses to read less than nothing

    assert examine(strict)._replace(refers_elsewhere=False) == Structure()
