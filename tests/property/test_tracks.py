"""A track gives a row the same values, to the bit, whichever rows come with it, and after any late value."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.market.tracks.track import Shape, Track
from app.market.tracks.windows import Over

SYMBOLS, LATE = 9, 5
WANTED = [
    (function, length)
    for function in Over
    for length in ((1, 7, 21) if function not in (Over.EARLIER, Over.SCORE) else (2, 7))
]
VALUES = st.sampled_from([math.nan, 0.0, 1.0, 0.5, 2.0, -3.0, 0.1, 1e6])
Values = NDArray[np.float64]


class Rows:
    """Rows of several symbols for `Track.follow`, in order of time by symbol."""

    def __init__(self, rows: list[tuple[int, int, bool, float]]) -> None:
        self.times = np.array([row[0] for row in rows], np.int64)
        self.symbols = np.array([row[1] for row in rows], np.intp)
        self.kept = np.array([row[2] for row in rows], np.bool_)
        self.values = np.array([row[3] for row in rows], np.float64)

    def followed_by(self, track: Track, at: slice | NDArray[np.intp] = slice(None)) -> Values:
        return track.follow(self.times[at], self.symbols[at], self.kept[at], self.values[at])


def _track() -> Track:
    return Track(WANTED, Shape.of(WANTED, LATE), SYMBOLS)


@st.composite
def _frames(draw) -> list[Rows]:
    """Frames of one time each, of some of the symbols in any order: mostly the next time, some forming, some late. They
    go round a ring more than once."""
    newest, frames = 100, []
    for _ in range(draw(st.integers(1, 40))):
        newest += draw(st.sampled_from([0, 0, 1, 1, 5, 9]))
        time = newest - draw(st.sampled_from([0, 0, 0, 0, 1, LATE]))
        symbols = draw(st.permutations(range(SYMBOLS)))[: draw(st.integers(1, SYMBOLS))]
        kept = draw(st.sampled_from([True, True, True, False]))
        frames.append(Rows([(time, symbol, kept, draw(VALUES)) for symbol in symbols]))
    return frames


@settings(max_examples=60, deadline=None)
@given(_frames())
def test_a_row_has_the_same_values_alone_and_among_the_rows_of_its_minute(frames):
    together, alone = _track(), _track()
    for rows in frames:
        found = rows.followed_by(together)
        by_row = [rows.followed_by(alone, slice(at, at + 1)) for at in range(len(rows.times))]
        np.testing.assert_array_equal(found, np.concatenate(by_row, axis=1))


@settings(max_examples=60, deadline=None)
@given(_frames())
def test_values_kept_from_an_earlier_row_of_the_minute_are_those_computed_anew(frames):
    kept, fresh = _track(), _track()
    for rows in frames:
        fresh.want(WANTED)
        np.testing.assert_array_equal(rows.followed_by(kept), rows.followed_by(fresh))


def test_spans_of_one_length_and_several_functions_do_not_mix():
    alone = {
        (function, 6): Track([(function, 6)], Shape.of([(function, 6)]), 1)
        for function in Over
        if function != Over.EARLIER
    }
    wanted = list(alone)
    track = Track(wanted, Shape.of(wanted), 1)
    for time, value in enumerate([0.0, 1.0, 0.5, 1.0, 1.0, 0.0, 1.0, 1.0, 0.5, 1.0, 2.0]):
        rows = Rows([(time, 0, True, value)])
        expected = [rows.followed_by(alone[function]) for function in wanted]
        np.testing.assert_array_equal(rows.followed_by(track), np.concatenate(expected))
