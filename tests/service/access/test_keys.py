import hashlib
import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.keys import ApiKey, KeysError, find_key, new_key, read_keys

SALT = "000102030405060708090a0b0c0d0e0f"
DIGEST = hashlib.sha256(bytes(range(16)) + b"pdk").hexdigest()
LINE = f"ward-7:sha256${SALT}${DIGEST}"


def test_a_line_is_a_name_a_salted_hash_and_a_limit() -> None:
    text = f"# the wards\n\n{LINE}\n  ward-8:sha256${SALT}${DIGEST}:4  \n"

    assert read_keys(text) == [
        ApiKey("ward-7", bytes(range(16)), bytes.fromhex(DIGEST), None),
        ApiKey("ward-8", bytes(range(16)), bytes.fromhex(DIGEST), 4),
    ]


def test_the_hash_is_sha256_of_salt_and_token() -> None:
    keys = read_keys(LINE)

    assert find_key(keys, "pdk") == keys[0]
    assert [find_key(keys, token) for token in ("", "pd", "pdk ", "pdK", "ö", "\udcff", "x" * 70_000)] == [None] * 7


def test_a_new_key_is_found_by_its_token_alone_and_survives_the_file() -> None:
    made = [new_key(f"ward-{n}", limit) for n, limit in enumerate([None, 1, 999_999])]
    keys = read_keys("\n".join(key.line() for _, key in made))

    assert [find_key(keys, token) for token, _ in made] == [key for _, key in made]
    assert len({key.caller for key in keys} | {token for token, _ in made}) == 6


def test_a_token_has_more_than_128_random_bits_and_is_not_in_its_line() -> None:
    tokens = {new_key("ward")[0] for _ in range(100)}
    token, key = new_key("ward", 4)

    assert len(tokens) == 100
    assert all(len(token.removeprefix("pdkot_")) * 6 >= 256 for token in tokens)
    assert set("".join(tokens)) <= set(string.ascii_letters + string.digits + "-_")
    assert token not in key.line()
    assert token.removeprefix("pkdot_") not in repr(key)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (LINE + "\nno hash here", 2),
        ("a b" + LINE[6:], 1),
        (LINE[6:], 1),
        (LINE + ":0", 1),
        (LINE + ":1:1", 1),
        (LINE.replace("sha256", "md5"), 1),
        (LINE[:-1], 1),
        (LINE + "\n\n" + LINE, 3),
        ("pkdot_" + "k" * 43, 1),
    ],
)
def test_a_wrong_line_is_named_by_its_number_and_never_quoted(text: str, number: int) -> None:
    with pytest.raises(KeysError, match=f"line {number} ") as caught:
        read_keys(text)

    assert all(line not in str(caught.value) for line in text.splitlines() if line)


@pytest.mark.parametrize(("name", "limit"), [("", None), ("a:b", None), ("a" * 65, None), ("ö", None), ("a", 0)])
def test_an_impossible_name_or_limit_makes_no_key(name: str, limit: int | None) -> None:
    with pytest.raises(KeysError):
        new_key(name, limit)


@given(st.text(max_size=200))
def test_no_text_is_a_key_by_chance_and_none_breaks_the_reader(text: str) -> None:
    assert find_key(read_keys(LINE), text) is None or text == "pdk"
    with suppress(KeysError):
        assert read_keys(text) == []
