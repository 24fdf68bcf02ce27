"""Measures the drift between training data and new rows, column by column.

PSI, the population stability index, sums ``(now - before) * ln(now / before)`` over the shares of
bins; by convention less than 0.1 is no drift and more than 0.25 is large. KS, for numbers, is the
largest distance between the two cumulative distributions.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

SOME, MUCH = 0.1, 0.25  # conventional thresholds of PSI
BINS, CATEGORIES = 10, 20  # maxima, besides the bins MISSING and OTHER
MISSING, OTHER = "(missing)", "(other)"
LEVEL = 0.95


@dataclass(frozen=True)
class Drift:
    """The drift of a column.

    Attributes:
        psi: the population stability index.
        chance: the 95th percentile of PSI without drift; large for few rows.
        ks: the Kolmogorov-Smirnov distance, for numbers only.
        p: the p-value of this distance.
        missing_before, missing_now: shares of rows without a value.
    """

    column: str
    psi: float
    chance: float
    ks: float | None
    p: float | None
    missing_before: float
    missing_now: float

    @property
    def verdict(self) -> str:
        """``much``, ``some`` or ``no`` drift; a PSI that chance explains is ``no``."""
        if self.psi <= max(SOME, self.chance):
            return "no"
        return "much" if self.psi > MUCH else "some"


def compare(before: pd.DataFrame, now: pd.DataFrame) -> list[Drift]:
    """The drift of each column that both tables have, the largest first."""
    drifts = [_drift(before[name], now[name]) for name in before if name in now]
    return sorted(drifts, key=lambda drift: -drift.psi)


def _drift(before: pd.Series, now: pd.Series) -> Drift:
    from scipy import stats  # slow to import, and seldom needed

    counts = binned(before, now)
    ks = p = None
    if _is_number(before) and before.notna().any() and now.notna().any():
        ks, p = map(float, stats.ks_2samp(before.dropna(), now.dropna()))
    rows = 1 / max(len(before), 1) + 1 / max(len(now), 1)
    chance = float(stats.chi2.ppf(LEVEL, max(len(counts) - 1, 1)) * rows)
    gaps = float(before.isna().mean()), float(now.isna().mean())
    return Drift(str(before.name), psi(counts), chance, ks, p, *gaps)


def binned(before: pd.Series, now: pd.Series) -> pd.DataFrame:
    """The number of rows in each bin, with the columns ``before`` and ``now``.

    Numbers are binned at the deciles of ``before``, text by value; missing values have a bin.
    """
    if _is_number(before):
        deciles = before.quantile(np.arange(1, BINS) / BINS).dropna()
        inner = sorted({float(f"{value:.4g}") for value in deciles})  # rounded as in the names
        edges = [-np.inf, *inner, np.inf]
        names = [f"up to {high:.4g}" for high in inner] + [
            f"above {inner[-1]:.4g}" if len(inner) else "all"
        ]
        parts = [pd.cut(part, edges, labels=names).astype(object) for part in (before, now)]
    else:
        names = before.dropna().astype(str).value_counts().index[:CATEGORIES].tolist()
        parts = [part.map(str, na_action="ignore").astype(object) for part in (before, now)]
        parts = [part.where(part.isna() | part.isin(names), OTHER) for part in parts]
    counts = [part.where(part.notna(), MISSING).value_counts() for part in parts]
    table = pd.DataFrame(dict(zip(("before", "now"), counts, strict=True)))
    return (
        table.reindex([*dict.fromkeys([*names, OTHER, MISSING])])
        .dropna(how="all")
        .fillna(0)
        .astype(int)
    )


def psi(counts: pd.DataFrame) -> float:
    """The population stability index of :func:`binned` counts, half a row added to each."""
    shares = (counts + 0.5) / (counts + 0.5).sum()
    return float(((shares.now - shares.before) * np.log(shares.now / shares.before)).sum())


def _is_number(column: pd.Series) -> bool:
    return is_numeric_dtype(column) and not is_bool_dtype(column)
