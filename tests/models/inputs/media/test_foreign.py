"""What FFmpeg could read and is not asked to: playlists, manifests, subtitles, other pictures, odd containers."""

import struct

import pytest

from models.inputs.media.media import MediaError, MediaLimits, probe

PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"

FOREIGN = {
    "hls after a byte order mark": b"\xef\xbb\xbf" + PLAYLIST,
    "xspf": b"<?xml version='1.0'?><playlist xmlns='http://xspf.org/ns/0/'/>",
    "imf": b"<?xml version='1.0'?><CompositionPlaylist/>",
    "pls": b"[playlist]\nFile1=/etc/hostname\n",
    "asx": b"<asx version='3.0'><entry><ref href='file:///etc/hostname'/></entry></asx>",
    "rtsp redirection": b"RTSPtextRTSP://host/x",
    "name of a source": b"testsrc",
    "ffmetadata": b";FFMETADATA1\ntitle=x\n",
    "subrip": b"1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    "webvtt": b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n",
    "bmp": b"BM" + bytes(100),
    "tiff": b"II*\0\x08\0\0\0" + bytes(50),
    "ppm": b"P6\n2 2\n255\n" + bytes(12),
    "psd": b"8BPS\0\1" + bytes(60),
    "openexr": bytes.fromhex("762f3101") + bytes(60),
    "jpeg 2000": bytes.fromhex("0000000c6a5020200d0a870a") + bytes(60),
    "jpeg xl": bytes.fromhex("ff0a") + bytes(60),
    "icon": b"\0\0\1\0\1\0" + bytes(60),
    "avif": b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(60),
    "packed svg": bytes.fromhex("1f8b0800") + bytes(30),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "yuv4mpeg": b"YUV4MPEG2 W2 H2 F25:1\nFRAME\n" + bytes(6),
    "flash video": b"FLV\x01\x05\0\0\0\x09\0\0\0\0",
    "flash": b"FWS\x0a" + bytes(100),
    "asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(100),
    "realmedia": b".RMF\0\0\0\x12" + bytes(100),
    "mxf": bytes.fromhex("060e2b34020501010d0102") + bytes(100),
    "dv": b"\x1f\x07\0\x3f" + bytes(2000),
    "midi": b"MThd\0\0\0\6" + bytes(20),
    "tracker": b"Extended Module: " + bytes(80),
    "nes music": b"NESM\x1a" + bytes(120),
}
DISGUISED = {
    "in an id3 tag's file": b"ID3\x04\0\0\0\0\0\0" + PLAYLIST,
    "in a box": struct.pack(">I4s", 8 + len(PLAYLIST), b"free") + PLAYLIST,
    "in a wave file": b"RIFF" + struct.pack("<I", 4 + len(PLAYLIST)) + b"WAVE" + PLAYLIST,
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_other_formats_are_unsupported(content: bytes) -> None:
    with pytest.raises(MediaError) as refused:
        probe(content, MediaLimits())

    assert refused.value.code == "unsupported_media"
    assert "accepted" in str(refused.value)


@pytest.mark.parametrize("content", DISGUISED.values(), ids=DISGUISED)
def test_a_playlist_in_another_format_s_clothes_is_not_followed(content: bytes) -> None:
    with pytest.raises(MediaError) as refused:
        probe(content, MediaLimits())

    assert refused.value.code == "unreadable_media"
