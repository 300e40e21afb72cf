from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from service.errors import IdempotencyMismatch, InvalidField
from service.sharing.idempotency import AnswerStore, idempotency_key


class Sized(NamedTuple):
    name: str
    size: int = 1


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def store(clock: Clock, *, entries: int = 100, room: int = 1000, lifetime_s: float = 60.0) -> AnswerStore[Sized]:
    return AnswerStore[Sized](max_entries=entries, max_bytes=room, lifetime_s=lifetime_s, clock=clock)


def ask_and_keep(answers: AnswerStore[Sized], key: str, answer: Sized, payload: bytes = b"p") -> None:
    answers.keep(key, answers.claim(key, payload, "run"), answer)


def test_a_repeat_gets_the_kept_answer_for_as_long_as_it_is_kept() -> None:
    clock = Clock()
    answers = store(clock)
    assert answers.claim("k", b"p", "run").answer is None
    clock.now_s = 50
    ask_and_keep(answers, "k", Sized("a"))

    clock.now_s = 50 + 59.9
    assert answers.claim("k", b"p", "run").answer == Sized("a")
    clock.now_s = 50 + 60
    assert answers.claim("k", b"p", "run").answer is None


def test_a_key_stands_for_its_first_payload_while_that_is_at_work_and_afterwards() -> None:
    clock = Clock()
    answers = store(clock)
    claimed = answers.claim("k", b"p", "run")
    with pytest.raises(IdempotencyMismatch, match="another payload"):
        answers.claim("k", b"other", "run")
    answers.keep("k", claimed, Sized("a"))
    with pytest.raises(IdempotencyMismatch):
        answers.claim("k", b"other", "run")

    clock.now_s = 60
    assert answers.claim("k", b"other", "run").answer is None


def test_answers_of_others_do_not_drive_out_a_key_that_is_at_work() -> None:
    answers = store(Clock(), room=100)
    answers.claim("k", b"p", "run")
    for name in "abcdefgh":
        ask_and_keep(answers, name, Sized(name, 25))

    with pytest.raises(IdempotencyMismatch):
        answers.claim("k", b"other", "run")
    assert [name for name in "abcdefgh" if answers.claim(name, b"p", "run").answer] == ["e", "f", "g", "h"]


def test_a_run_that_outlives_its_key_does_not_take_the_key_from_a_later_payload() -> None:
    clock = Clock()
    answers = store(clock)
    early = answers.claim("k", b"early", "run")
    clock.now_s = 60
    late = answers.claim("k", b"late", "another run")

    answers.keep("k", early, Sized("of the early one"))
    assert answers.claim("k", b"late", "another run").answer is None
    answers.keep("k", late, Sized("of the late one"))
    assert answers.claim("k", b"late", "another run").answer == Sized("of the late one")


def test_a_repeat_is_told_which_run_was_begun_for_its_key() -> None:
    answers = store(Clock())
    answers.claim("k", b"p", "bundle 1")

    assert answers.claim("k", b"p", "bundle 2").run == "bundle 1"


def test_the_oldest_answers_go_where_the_room_is_full() -> None:
    answers = store(Clock(), room=100)
    for name in "abcde":
        ask_and_keep(answers, name, Sized(name, 25))

    assert [answers.claim(name, b"p", "run").answer for name in "bcde"] == [Sized(name, 25) for name in "bcde"]
    assert answers.claim("a", b"p", "run").answer is None


def test_an_answer_that_would_drive_out_many_is_not_kept_but_its_key_is() -> None:
    answers = store(Clock(), room=100)
    ask_and_keep(answers, "k", Sized("a", 26))

    assert answers.claim("k", b"p", "run").answer is None
    with pytest.raises(IdempotencyMismatch):
        answers.claim("k", b"other", "run")


@settings(max_examples=200)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([b"p", b"q"]), st.integers(0, 40), st.integers(0, 30)),
        max_size=40,
    )
)
def test_bounds_hold_and_no_answer_is_given_to_another_payload(steps: list[tuple[str, bytes, int, int]]) -> None:
    clock = Clock()
    answers = store(clock, entries=4, room=100)
    for key, payload, size, passed_s in steps:
        clock.now_s += passed_s
        try:
            entry = answers.claim(key, payload, "run")
        except IdempotencyMismatch:
            continue
        if entry.answer is None:
            answers.keep(key, entry, Sized(key + payload.decode(), size))
        else:
            assert entry.answer.name == key + payload.decode()
        kept = [entry.answer for entry in answers.entries.values() if entry.answer is not None]
        assert len(answers.entries) <= 4
        assert answers.bytes == sum(answer.size for answer in kept) <= 100


@pytest.mark.parametrize("given", ["a", "!", "~" * 128, '"8e03978e-40d5-43dd-bc93-6894a57f9324"'])
def test_a_key_is_visible_ascii(given: str) -> None:
    assert idempotency_key(Headers({"idempotency-key": given})) == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "\xe4", "a\x7f"])
def test_another_key_is_an_invalid_field(given: str) -> None:
    with pytest.raises(InvalidField, match="Idempotency-Key: must be sent once"):
        idempotency_key(Headers({"idempotency-key": given}))


def test_two_keys_are_an_invalid_field_and_none_is_none() -> None:
    with pytest.raises(InvalidField):
        idempotency_key(Headers(raw=[(b"idempotency-key", b"a"), (b"idempotency-key", b"b")]))
    assert idempotency_key(Headers({})) is None
