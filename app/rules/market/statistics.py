"""Functions of one value per symbol: shape (symbols,), NaN is null and takes no part."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.candles.batch import BoolArray, FloatArray

LEAST_KNOWN: Final = 2
"""Statistics of fewer symbols are null."""


def rank(values: FloatArray) -> FloatArray:
    """Return 1 for the largest; equal values share the best rank."""
    known = _known(values)
    ranks = 1.0 + len(known) - np.searchsorted(known, values, side="right")
    return np.where(np.isnan(values), np.nan, ranks)


def pct_rank(values: FloatArray) -> FloatArray:
    """Return the share of the other known symbols with a smaller value, 0..1; equal values count half."""
    known = _known(values)
    if len(known) < LEAST_KNOWN:
        return np.full(len(values), np.nan)
    smaller = np.searchsorted(known, values, side="left")
    equal = np.searchsorted(known, values, side="right") - smaller - 1
    return np.where(np.isnan(values), np.nan, (smaller + 0.5 * equal) / (len(known) - 1))


def mean(values: FloatArray) -> FloatArray:
    """The same for every symbol."""
    known = values[~np.isnan(values)]
    return np.full(len(values), known.mean() if len(known) >= LEAST_KNOWN else np.nan)


def median(values: FloatArray) -> FloatArray:
    """The same for every symbol."""
    known = values[~np.isnan(values)]
    return np.full(len(values), np.median(known) if len(known) >= LEAST_KNOWN else np.nan)


def share(true: BoolArray, false: BoolArray) -> FloatArray:
    """Return the share of symbols for which a condition is true, among those for which it is true or false; the same
    for all."""
    yes, no = np.count_nonzero(true), np.count_nonzero(false)
    return np.full(len(true), yes / (yes + no) if yes + no >= LEAST_KNOWN else np.nan)


def of_symbol(values: FloatArray, is_symbol: BoolArray) -> FloatArray:
    """Return the value of the one symbol, for every symbol; null if it is not among them."""
    at = np.flatnonzero(is_symbol)
    return np.full(len(values), values[at[0]] if len(at) else np.nan)


def _known(values: FloatArray) -> FloatArray:
    """Return the known values, sorted."""
    return np.sort(values[~np.isnan(values)])
