"""Predictions: damaged recordings in sound forms, damaged forms, and damaged HTTP around them."""

from collections.abc import Sequence
from random import Random
from typing import Final

from .mutations import ON_BYTES, damaged
from .seeds import Seed
from .wire import FORM_TYPE, Field, Input, form, request

ROUTES: Final = {"pain": "/predict/pain", "valence-arousal": "/predict/valence-arousal"}
GOOD_TEXTS: Final[Sequence[tuple[str, Sequence[str]]]] = (
    ("start_s", ("0", "0.1", "0.5")),
    ("end_s", ("0.3", "0.7", "5")),
    ("hop_s", ("0.02", "0.1", "0.5")),
    ("face", ("largest", "all")),
    ("detail", ("frames",)),
)
ODD_NAMES: Final = (
    *(
        "video",
        "frames",
        "audio",
        "fps",
        "start_s",
        "end_s",
        "hop_s",
        "bundle",
        "face",
        "detail",
        "",
        "Video",
        "video ",
    ),
    *("frames[]", "../video", "x" * 5_000, "vidéo", "\udcff\udcfe", 'a"b', "a\\", "name\r\nX: y", "*", "__class__"),
)
ODD_VALUES: Final = (
    *("0", "-0", "-1", "1e308", "1e-308", "5e-324", "1e999", "nan", "inf", "-inf", "0x10", "1_0", "٣", "1,5", " 1 "),
    *(
        "",
        "true",
        "null",
        "240",
        "241",
        "0.02",
        "0.019",
        "900",
        "1e9",
        "largest",
        "all",
        "frames",
        "pain-test",
        "x" * 2_000,
    ),
    *("\0", "\u202e", "\udcff", "'; --", "{}", "%s%n", "../../etc/passwd", "pain-test\n", "9" * 400, "1" + "0" * 31),
)
ODD_PART_HEADERS: Final = (
    *("Content-Type: image/jpeg", "Content-Type: " + "x" * 5_000, "Content-Transfer-Encoding: base64", "X: \0", ": y"),
    *("Content-Transfer-Encoding: binary", "Content-Disposition: attachment", "no colon", " folded: 1", "X-\xff: y"),
)
ODD_BOUNDARIES: Final = (
    *("", "edge", '"edge-4f1c"', '"edge-4f1c', "edge-4f1c; charset=utf-8", "x" * 300, "\xe9", "a b", "edge-4f1c\x00"),
)
ODD_TYPES: Final = (
    *("", "text/plain", "multipart/form-data", "multipart/mixed; boundary=edge-4f1c", "multipart/form-data;boundary"),
    *(
        "MULTIPART/FORM-DATA; BOUNDARY=edge-4f1c",
        "application/json",
        "multipart/form-data; boundary=a; boundary=edge-4f1c",
    ),
)
ODD_HEADERS: Final = (
    *(("X-Request-Timeout", value) for value in ("0", "-1", "nan", "1e-9", "0.05", "1e99", "", "5", "x")),
    *(("X-Request-ID", value) for value in ("", "a" * 129, "\xff", "a b", "ok.id_-1")),
    *(("Idempotency-Key", value) for value in ("a", "b", "c", "", "x" * 129, "\xe9")),
    *(("Accept", value) for value in ("application/x-ndjson", "application/x-ndjson;q=0", "*/*", "text/html", ",;q=")),
    *(("traceparent", value) for value in ("00-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-0-0-0", "ff", "\xff")),
    *(("Expect", "100-continue"), ("Expect", "x"), ("Range", "bytes=0-1"), ("Content-Encoding", "gzip")),
    *(("X-Forwarded-For", "1.1.1.1, \xff"), ("Authorization", "Bearer x"), ("Origin", "null"), ("TE", "trailers")),
)
ODD_HEADS: Final = (
    *(
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Content-Length: -1",
        b"Content-Length: 9999",
    ),
    *(
        b"Content-Length: 99999999999999999999",
        b"Host: other",
        b"Upgrade: h2c",
        b"Upgrade: websocket",
        b"X: " + b"y" * 70_000,
    ),
    *(
        b" folded",
        b"X\0: y",
        b"no colon",
        b": empty",
        b"Connection: upgrade, close",
        b"Expect: 100-continue",
        b"A: b\nC: d",
    ),
)
FILE_NAMES: Final = ("a", "x.mp4", "../../etc/passwd", "a\\b", "%00.jpg", "\udcff", "i%03d.jpg", "http://[::1]/x.m3u8")


def parts(chance: Random, seeds: Sequence[Seed], contents: Sequence[bytes], harm: float) -> tuple[str, list[Field]]:
    """A task, and the fields of a form for it; each of its recordings is damaged with probability `harm`."""

    def file(seed: Seed) -> Field:
        content = damaged(chance, seed.content, contents) if chance.random() < harm else seed.content
        return Field(seed.field, content, chance.choice(FILE_NAMES) if chance.random() < 0.1 else "a")

    first = chance.choice(seeds)
    if first.field == "frames":
        pictures = [seed for seed in seeds if seed.field == "frames"]
        files = [file(first), *(file(chance.choice(pictures)) for _ in range(chance.choice((0, 0, 1, 6))))]
        texts = [Field("fps", chance.choice((b"5", b"25", b"0.5")))] if chance.random() < 0.5 else []
        task = "pain"
    else:
        files, texts = [file(first)], []
        task = "valence-arousal" if first.field == "audio" else chance.choice(tuple(ROUTES))
        sounds = [seed for seed in seeds if seed.field == "audio"]
        if task == "valence-arousal" and first.field == "video" and sounds and chance.random() < 0.15:
            files.append(file(chance.choice(sounds)))
    for name, values in GOOD_TEXTS:
        if chance.random() < 0.12:
            texts.append(Field(name, chance.choice(values).encode()))
    return task, [*texts, *files]


def media(chance: Random, seeds: Sequence[Seed], contents: Sequence[bytes]) -> Input:
    """A sound request with a damaged recording; now and then its client leaves while it is answered."""
    task, fields = parts(chance, seeds, contents, harm=0.97)
    headers = {"Content-Type": FORM_TYPE}
    if chance.random() < 0.15:
        headers["Accept"] = "application/x-ndjson"
    sent = request("POST", ROUTES[task], headers, form(fields))
    return Input("media", (sent,), "leaves" if chance.random() < 0.02 else "waits")


def damaged_form(chance: Random, seeds: Sequence[Seed], contents: Sequence[bytes]) -> Input:
    """Odd fields, values, headers and boundaries; or a body that is damaged byte by byte."""
    task, fields = parts(chance, seeds, contents, harm=0.2)
    headers = {"Content-Type": FORM_TYPE}
    for _ in range(chance.choice((1, 1, 2, 4))):
        pick = chance.random()
        if pick < 0.5:
            fields.insert(chance.randint(0, len(fields)), odd_field(chance))
        elif pick < 0.6:
            fields.append(chance.choice(fields))
        elif pick < 0.65:
            fields = fields * chance.choice((2, 40, 700))
        elif pick < 0.85:
            name, value = chance.choice(ODD_HEADERS)
            headers[name] = value
        elif pick < 0.95:
            headers["Content-Type"] = f"multipart/form-data; boundary={chance.choice(ODD_BOUNDARIES)}"
        else:
            headers["Content-Type"] = chance.choice(ODD_TYPES)
    body = form(fields)[: 4 << 20]
    if chance.random() < 0.5:
        body = chance.choice(ON_BYTES)(chance, body)
    return Input("form", (request("POST", ROUTES[task], headers, body),), intact="\0" not in "".join(headers.values()))


def odd_field(chance: Random) -> Field:
    content = chance.choice(ODD_VALUES).encode("utf-8", "surrogateescape")
    headers = (chance.choice(ODD_PART_HEADERS),) if chance.random() < 0.2 else ()
    name = chance.choice(GOOD_TEXTS)[0] if chance.random() < 0.6 else chance.choice(ODD_NAMES)
    return Field(name, content, chance.choice((None, None, *FILE_NAMES)), headers)


def damaged_head(chance: Random, seeds: Sequence[Seed], contents: Sequence[bytes]) -> Input:
    """HTTP that is broken itself, in its first line, its headers or its chunks; or a body that does not come."""
    task, fields = parts(chance, seeds, contents, harm=0.1)
    sent = request("POST", ROUTES[task], {"Content-Type": FORM_TYPE}, form(fields))
    head, _, body = sent.partition(b"\r\n\r\n")
    pick = chance.random()
    if pick < 0.3:
        head = chance.choice(ON_BYTES)(chance, head)
    elif pick < 0.65:
        lines = head.split(b"\r\n")
        lines.insert(chance.randint(1, len(lines)), chance.choice(ODD_HEADS))
        head = b"\r\n".join(lines)
    elif pick < 0.8:
        head = head.replace(b"Content-Length", b"Transfer-Encoding: chunked\r\nX-Length")
        body = chunked(chance, body)
    else:
        body = body[: chance.randrange(len(body))]
    return Input(
        "head", (head + b"\r\n\r\n" + body,), chance.choice(("half-closes", "half-closes", "leaves")), intact=False
    )


def chunked(chance: Random, body: bytes) -> bytes:
    """The body in chunks; often one of them lies about its size."""
    size, sent = chance.choice((1_000, 20_000)), b""
    for at in range(0, len(body), size):
        chunk = body[at : at + size]
        head = b"%x" % len(chunk)
        if chance.random() < 0.1:
            head = chance.choice((b"-1", b"", b"fffffffffffffffff", b"%x" % (len(chunk) + 1), b"0", b"5;x=y", b"0x5"))
        sent += head + b"\r\n" + chunk + b"\r\n"
    return sent + chance.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX-Trailer: y\r\n\r\n", b""))
