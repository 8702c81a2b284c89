"""How long a lease is believed."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from executor.lease import SECOND, Term

TTLS = st.integers(min_value=3, max_value=600).map(lambda seconds: timedelta(seconds=seconds))
INSTANTS = st.integers(min_value=0, max_value=2**60)


@given(INSTANTS, TTLS)
def test_an_engine_is_interrupted_then_killed_and_only_then_may_the_lease_lapse(sent_at: int, ttl: timedelta) -> None:
    term = Term.confirmed(sent_at=sent_at, ttl=ttl)

    assert sent_at < term.trusted_until < term.kill_at < term.lapses_at


@given(INSTANTS, INSTANTS, TTLS)
def test_a_later_answer_to_an_earlier_message_takes_nothing_back(first: int, second: int, ttl: timedelta) -> None:
    one, other = Term.confirmed(sent_at=first, ttl=ttl), Term.confirmed(sent_at=second, ttl=ttl)

    extended = one.extended_by(other)

    assert extended == other.extended_by(one)
    assert extended.lapses_at == max(one.lapses_at, other.lapses_at)


@given(INSTANTS, st.integers(min_value=0, max_value=10**12), TTLS)
def test_a_slow_answer_never_lengthens_the_belief(sent_at: int, delay: int, ttl: timedelta) -> None:
    # The control plane renewed at some moment between the send and the answer: never before the send.
    renewed_at = sent_at + delay

    assert Term.confirmed(sent_at=sent_at, ttl=ttl).lapses_at <= renewed_at + int(ttl.total_seconds()) * SECOND


def test_the_margins_of_the_usual_lease_are_ten_and_five_seconds() -> None:
    term = Term.confirmed(sent_at=0, ttl=timedelta(seconds=60))

    assert (term.trusted_until, term.kill_at) == (50 * SECOND, 55 * SECOND)


def test_the_margins_of_a_short_lease_shrink_with_it() -> None:
    term = Term.confirmed(sent_at=0, ttl=timedelta(seconds=6))

    assert (term.trusted_until, term.kill_at) == (5 * SECOND, 5 * SECOND + SECOND // 2)
