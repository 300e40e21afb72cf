"""Multipart bodies: cut anywhere they mean the same, and broken anyhow they never break the service."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.errors import MalformedRequest, UnsupportedMedia
from service.uploads.form import Form, boundary_of, read_form
from service.uploads.upload import Spool

BOUNDARY = b"edge"
NAMES = st.sampled_from(["video", "frames", "hop_s", "other"])
# contents that come close to being the boundary
CONTENTS = st.lists(st.sampled_from([b"\r\n", b"--", b"edge", b"\r", b"-", b"x", b"\r\n--edg", b"\0"]), max_size=12)
URL = "/predict/pain"


def part(name: str, content: bytes, *headers: bytes) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"; filename="f"'.encode()
    return b"--edge\r\n" + b"\r\n".join([disposition, *headers]) + b"\r\n\r\n" + content + b"\r\n"


def body_of(parts: list[tuple[str, bytes]]) -> bytes:
    return b"".join(part(name, content) for name, content in parts) + b"--edge--\r\n"


def read(body: bytes, cuts: list[int]) -> tuple[Form, Spool]:
    async def chunks() -> AsyncIterator[bytes]:
        edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
        for start, end in itertools.pairwise(edges):
            yield body[start:end]

    async def whole() -> tuple[Form, Spool]:
        with ThreadPoolExecutor(1) as writers:
            spool = Spool(Path(), 1 << 20, writers)
            known = {"files": frozenset({"video", "frames"}), "texts": frozenset({"hop_s"})}
            return await read_form(chunks(), BOUNDARY, spool, **known, max_files=100), spool

    return asyncio.run(whole())


@settings(max_examples=60)
@given(parts=st.lists(st.tuples(NAMES, CONTENTS.map(b"".join)), max_size=5), cuts=st.lists(st.integers(0), max_size=6))
def test_any_cutting_into_chunks_gives_what_was_sent(parts: list[tuple[str, bytes]], cuts: list[int]) -> None:
    parts = [(name, content) for name, content in parts if b"\r\n--edge" not in b"\r\n" + content]
    form, spool = read(body_of(parts), cuts)

    for name in ("video", "frames"):
        sent = [content for other, content in parts if other == name]
        assert [spool.source(piece) for piece in form.files.get(name, [])] == sent
    assert form.unknown == [name for name, _ in parts if name == "other"]
    assert len(form.texts.get("hop_s", [])) == min(2, sum(name == "hop_s" for name, _ in parts))


def test_text_over_a_kilobyte_is_noticed_and_not_kept() -> None:
    form, _ = read(body_of([("hop_s", b"1" * 1025), ("hop_s", b"1" * 1024)]), [])

    assert form.overlong == {"hop_s"}
    assert form.texts == {"hop_s": ["1" * 1024]}


def test_files_that_are_packed_for_transfer_are_refused() -> None:
    with pytest.raises(MalformedRequest, match="Content-Transfer-Encoding"):
        read(part("video", b"aGVsbG8=", b"Content-Transfer-Encoding: base64") + b"--edge--\r\n", [])


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed; boundary=a"]
)
def test_other_kinds_of_body_are_unsupported(content_type: str) -> None:
    with pytest.raises(UnsupportedMedia):
        boundary_of(content_type)


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""']
)
def test_a_form_without_boundary_is_malformed(content_type: str) -> None:
    with pytest.raises(MalformedRequest):
        boundary_of(content_type)


@settings(max_examples=150)
@given(data=st.data())
def test_broken_bodies_never_give_a_500(client: TestClient, data: st.DataObject) -> None:
    whole = body_of([("video", b"not a video"), ("hop_s", b"1")])
    change = data.draw(st.sampled_from(["cut", "insert", "replace", "random", "swap"]))
    at = data.draw(st.integers(0, len(whole)))
    noise = data.draw(
        st.binary(max_size=40) | st.sampled_from([b"\r\n--edge\r\n", b"--edge--", b"\r\n\r\n", b":", b"\0"])
    )
    body = {
        "cut": whole[:at],
        "insert": whole[:at] + noise + whole[at:],
        "replace": whole[:at] + noise + whole[at + len(noise) :],
        "random": noise,
        "swap": whole[at:] + whole[:at],
    }[change]
    kind = data.draw(
        st.sampled_from(["multipart/form-data; boundary=edge", "multipart/form-data; boundary=" + "e" * 300])
        | st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30).map(
            lambda text: "multipart/form-data; boundary=" + text
        )
    )
    reply = client.post(URL, content=body, headers={b"content-type": kind.encode("latin-1")})

    assert reply.status_code in {400, 413, 415, 422}
    assert reply.headers["content-type"] == "application/problem+json"


@pytest.fixture(autouse=True)
def nothing_is_kept(client: TestClient) -> Iterator[None]:
    yield
    admission = client.app.state.lifecycle.resources.admission  # type: ignore[attr-defined]
    assert (admission.at_work, admission.spool_bytes) == (0, 0)
