"""multipart/form-data (RFC 7578), parsed while it comes: files go to the spool, short fields are kept as text."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import MalformedRequest, TooLarge, UnsupportedMedia
from service.uploads.upload import Piece, Spool

MAX_TEXT_BYTES: Final = 1024
MAX_NAME_CHARS: Final = 64
MAX_VALUES: Final = 2
"""Values of a field that are kept: the second shows that it came twice."""
MAX_NAMED: Final = 32
"""Unknown fields that are remembered by name."""
OTHER_PARTS: Final = 64
"""How many parts a form may have beside its files."""
PLAIN_ENCODINGS: Final = frozenset({b"", b"7bit", b"8bit", b"binary"})


class PartStart(NamedTuple):
    name: str


class PartData(NamedTuple):
    data: bytes


class PartEnd(NamedTuple):
    pass


Event = PartStart | PartData | PartEnd


@dataclass
class Form:
    """What came: each field with everything that was sent under its name, in order."""

    files: dict[str, list[Piece]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    overlong: set[str] = field(default_factory=set)


class PartEvents:
    """python-multipart's callbacks as a list of events for each chunk."""

    def __init__(self, boundary: bytes) -> None:
        self.events: list[Event] = []
        self.ended = False
        self.header, self.value = bytearray(), bytearray()
        self.headers: dict[bytes, bytes] = {}
        try:
            self.parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self.headers.clear,
                    "on_header_field": lambda data, start, end: self.header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self.value.extend(data[start:end]),
                    "on_header_end": self.on_header_end,
                    "on_headers_finished": self.on_headers_finished,
                    "on_part_data": lambda data, start, end: self.events.append(PartData(bytes(data[start:end]))),
                    "on_part_end": lambda: self.events.append(PartEnd()),
                    "on_end": self.on_end,
                },
            )
        except FormParserError as error:
            raise MalformedRequest(f"the multipart boundary cannot be used: {error}") from None

    def feed(self, chunk: bytes) -> list[Event]:
        """What `chunk` completes; MalformedRequest where it is not multipart."""
        self.events = []
        try:
            self.parser.write(chunk)
        except FormParserError as error:
            raise MalformedRequest(f"the body is not well-formed multipart/form-data: {error}") from None
        return self.events

    def on_header_end(self) -> None:
        self.headers[bytes(self.header).lower()] = bytes(self.value)
        self.header.clear()
        self.value.clear()

    def on_headers_finished(self) -> None:
        kind, options = parse_options_header(self.headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise MalformedRequest("a part has no Content-Disposition of the form: form-data; name=…")
        encoding = self.headers.get(b"content-transfer-encoding", b"").strip().lower()
        if encoding not in PLAIN_ENCODINGS:
            raise MalformedRequest("a part has a Content-Transfer-Encoding; send files as they are")
        self.events.append(PartStart(options[b"name"].decode("utf-8", "replace")))

    def on_end(self) -> None:
        self.ended = True


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart/form-data body; UnsupportedMedia or MalformedRequest without one."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        named = content_type.split(";")[0].strip()[:MAX_NAME_CHARS]
        raise UnsupportedMedia(f"the body is {named or 'of no stated type'}; send multipart/form-data")
    if not options.get(b"boundary"):
        raise MalformedRequest("the Content-Type names no multipart boundary")
    return options[b"boundary"]


async def read_form(
    chunks: AsyncIterator[bytes],
    boundary: bytes,
    spool: Spool,
    *,
    files: frozenset[str],
    texts: frozenset[str],
    max_files: int,
) -> Form:
    """Read a whole form: fields in `files` into the spool, those in `texts` into memory, others are dropped and named.

    Raises MalformedRequest, TooLarge (parts over the limit), and what `chunks` and the spool raise.
    """
    parts, form, reader = PartEvents(boundary), Form(), FormReader(files, texts, max_files)
    async for chunk in chunks:
        for event in parts.feed(chunk):
            match event:
                case PartStart(name):
                    reader.start(form, name, spool.size)
                case PartData(data):
                    if reader.keeps_file:
                        await spool.write(data)
                    else:
                        reader.add_text(data)
                case PartEnd():
                    reader.end(form, spool.size)
    if not parts.ended:
        raise MalformedRequest("the body ends before its last multipart boundary; send all of it")
    await spool.finish()
    return form


class FormReader:
    """The part that is being read."""

    def __init__(self, files: frozenset[str], texts: frozenset[str], max_files: int) -> None:
        self.files, self.texts = files, texts
        self.limits = {True: max_files, False: OTHER_PARTS}
        """Parts that are files, and others."""
        self.parts = {True: 0, False: 0}
        self.name = ""
        self.begin = 0
        self.text = bytearray()

    @property
    def keeps_file(self) -> bool:
        return self.name in self.files

    def start(self, form: Form, name: str, position: int) -> None:
        self.name, self.begin = name, position
        self.text.clear()
        is_file = self.keeps_file
        self.parts[is_file] += 1
        if self.parts[is_file] > self.limits[is_file]:
            what = "files" if is_file else "fields beside its files"
            raise TooLarge(f"the form has more than {self.limits[is_file]} {what}; send fewer")
        if name not in self.files and name not in self.texts and len(form.unknown) < MAX_NAMED:
            form.unknown.append(name[:MAX_NAME_CHARS])

    def add_text(self, data: bytes) -> None:
        # one byte more than allowed is kept, as a sign that the text was too long
        self.text += data[: MAX_TEXT_BYTES + 1 - len(self.text)]

    def end(self, form: Form, position: int) -> None:
        if self.keeps_file:
            form.files.setdefault(self.name, []).append(Piece(self.begin, position - self.begin))
        elif self.name in self.texts:
            if len(self.text) > MAX_TEXT_BYTES:
                form.overlong.add(self.name)
            elif len(values := form.texts.setdefault(self.name, [])) < MAX_VALUES:
                values.append(self.text.decode("utf-8", "replace").strip())
