"""Sums and running combinations whose order of additions never depends on the shape of the arrays.

NumPy adds in pairs when the axis it reduces is the innermost, and in sequence otherwise; how candles are cut
into frames must not change a bit of the results, so here it is always in sequence.
"""

from __future__ import annotations

import math

import numpy as np

from app.candles.batch import FloatArray

_NARROW = 8
"""Below this width NumPy's own accumulate is the faster; above, adding whole rows."""


def running(combine: np.ufunc, values: FloatArray, out: FloatArray | None = None) -> FloatArray:
    """Each row combined with all before it, along the last axis but one; `out` may be `values`."""
    if out is None:
        out = np.empty_like(values)
    rows = values.shape[-2]
    if values.shape[-1] < _NARROW and rows > 1:
        combine.accumulate(values, axis=-2, out=out)
        return out
    if out is not values:
        out[..., :1, :] = values[..., :1, :]
    for row in range(1, rows):
        combine(out[..., row - 1, :], values[..., row, :], out=out[..., row, :])
    return out


def total(values: FloatArray, axis: int = 0) -> FloatArray:
    """The sum along an axis other than the last, added up in its order."""
    if math.prod(values.shape[axis + 1 :]) == 1:
        last: FloatArray = np.add.accumulate(values, axis=axis).take(-1, axis=axis)
        return last
    added: FloatArray = np.add.reduce(np.ascontiguousarray(values), axis=axis)
    return added
