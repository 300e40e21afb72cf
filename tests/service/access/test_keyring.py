from contextlib import ExitStack
from pathlib import Path

import pytest

from service.access.keyring import KeyRing
from service.access.keys import KeysError, new_key
from service.errors import RateLimited, Unauthenticated


def ring(tmp_path: Path, *limits: int | None) -> tuple[KeyRing, list[str], Path]:
    made = [new_key(f"ward-{n}", limit) for n, limit in enumerate(limits)]
    file = tmp_path / "keys"
    file.write_text("".join(key.line() + "\n" for _, key in made))
    return KeyRing(file, jitter=lambda: 0.0, clock=iter(range(0, 10_000, 10)).__next__), [t for t, _ in made], file


@pytest.mark.parametrize("token", [None, "", "pkdot_wrong"])
def test_without_a_key_of_the_file_nobody_is_admitted(tmp_path: Path, token: str | None) -> None:
    keys, _, _ = ring(tmp_path, None)

    with pytest.raises(Unauthenticated) as caught, keys.admitted(keys.key_of(token)):
        pass

    assert caught.value.headers == {"www-authenticate": "Bearer"}
    assert not token or token not in caught.value.detail


def test_a_key_has_so_many_requests_at_once_and_no_other_key_feels_it(tmp_path: Path) -> None:
    keys, (limited, free), _ = ring(tmp_path, 2, None)
    with ExitStack() as stack:
        for token in (limited, limited, free, free, free):
            stack.enter_context(keys.admitted(keys.key_of(token)))
        with pytest.raises(RateLimited, match="its limit is 2"), keys.admitted(keys.key_of(limited)):
            pass

    assert keys.key_of(limited).name == "ward-0"
    with keys.admitted(keys.key_of(limited)):
        pass


def test_a_place_is_given_back_by_a_request_that_fails(tmp_path: Path) -> None:
    keys, (token,), _ = ring(tmp_path, 1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), keys.admitted(keys.key_of(token)):
            raise ZeroDivisionError


def test_one_who_is_expected_comes_in_beyond_the_limit_and_counts(tmp_path: Path) -> None:
    keys, (token,), _ = ring(tmp_path, 1)
    key = keys.key_of(token)
    with keys.admitted(key):
        with keys.admitted(key, expected=True), pytest.raises(RateLimited, match=r"^2 requests"), keys.admitted(key):
            pass
        with pytest.raises(RateLimited, match=r"^1 requests"), keys.admitted(key):
            pass


def test_no_more_of_a_key_are_expected_than_it_may_have_at_work(tmp_path: Path) -> None:
    keys, (token,), _ = ring(tmp_path, 2)
    key = keys.key_of(token)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(keys.admitted(key, expected=True))
        with pytest.raises(RateLimited, match=r"^4 requests"), keys.admitted(key, expected=True):
            pass


def test_when_to_come_back_is_the_mean_time_of_a_place(tmp_path: Path) -> None:
    keys, (token,), _ = ring(tmp_path, 2)
    for _ in range(50):
        with keys.admitted(keys.key_of(token)):  # by the clock each takes 10 s
            pass
    with (
        keys.admitted(keys.key_of(token)),
        keys.admitted(keys.key_of(token)),
        pytest.raises(RateLimited) as caught,
        keys.admitted(keys.key_of(token)),
    ):
        pass

    # the mean is 10 - 9 * 0.9^50 = 9.95 s, and two places come free in that time
    assert caught.value.headers == {"retry-after": "5"}


def test_to_ask_whether_a_key_may_come_in_takes_no_place_and_no_time(tmp_path: Path) -> None:
    keys, (token,), _ = ring(tmp_path, 1)
    for _ in range(50):
        keys.welcome(keys.key_of(token))
    with keys.admitted(keys.key_of(token)), pytest.raises(RateLimited, match="its limit is 1") as caught:
        keys.welcome(keys.key_of(token))

    assert caught.value.headers == {"retry-after": "1"}  # the mean is still the first guess of 1 s


def test_a_file_that_is_read_again_opens_and_closes_and_keeps_what_is_at_work(tmp_path: Path) -> None:
    keys, (old, kept), file = ring(tmp_path, None, 1)
    new, line = new_key("new")
    with keys.admitted(keys.key_of(kept)):
        file.write_text(file.read_text().splitlines()[1] + "\n" + line.line())
        keys.read()
        assert keys.key_of(new).name == "new"
        with pytest.raises(Unauthenticated), keys.admitted(keys.key_of(old)):
            pass
        with pytest.raises(RateLimited), keys.admitted(keys.key_of(kept)):
            pass
    with keys.admitted(keys.key_of(kept)):
        pass


def test_a_key_that_is_deleted_while_it_works_ends_well(tmp_path: Path) -> None:
    keys, (token,), file = ring(tmp_path, 1)
    with keys.admitted(keys.key_of(token)):
        file.write_text("")
        keys.read()

    with pytest.raises(Unauthenticated), keys.admitted(keys.key_of(token)):
        pass


@pytest.mark.parametrize("content", [None, b"rubbish", b"\xff"])
def test_a_file_that_cannot_be_changes_nothing(tmp_path: Path, content: bytes | None) -> None:
    keys, (token,), file = ring(tmp_path, None)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)

    with pytest.raises(KeysError) as caught:
        keys.read()

    assert str(tmp_path) not in str(caught.value)
    with keys.admitted(keys.key_of(token)):
        pass
