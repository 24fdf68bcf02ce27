"""Parses numbers and dates in text cells. Pure functions; a copy is stored with each model."""

import re

import pandas as pd
from pandas.api.types import is_string_dtype

# The forms that etl.parse may set, each with the pattern around its numbers
DECORATIONS = {
    "number": "",
    "currency": r"[$€£¥₹₽₩₺]|(?<![A-Za-z])(?:[A-Z]{3}|kr|zł|Fr\.?|US\$)(?![A-Za-z])",
    "percent": r"\s*(?:%|percent|pct)$",
    "unit": r"\s*[A-Za-zµ°²³/]+[.²³]?$",
    "duration": "",
}
DURATION = (
    r"^(?P<sign>[+-]?)(?P<hours>\d+):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d(?:\.\d+)?))?$"
)


def plain(
    text: pd.Series, decimal: str = ".", thousands: str | None = "", decoration: str = ""
) -> pd.Series:
    """Text cells with numbers in Python's notation; other cells are unchanged.

    Args:
        text: the cells, stripped.
        decimal, thousands: the decimal and the thousands sign.
        decoration: a key of :data:`DECORATIONS`: also remove the text around the number, such as
            a currency, and read ``(5)`` and a typographic minus as negative; ``duration`` reads
            ``1:30`` and ``1:30:00`` as seconds.
    """
    if decoration == "duration":
        return _as_seconds(text)
    stripped = text
    if decoration:
        stripped = text.str.replace("[\u2212\u2013]", "-", regex=True)
        stripped = stripped.str.replace(r"^\((.*)\)$", r"-\1", regex=True)
        stripped = stripped.str.replace(DECORATIONS[decoration], "", regex=True).str.strip()
        stripped = stripped.str.replace(r"^-\s+", "-", regex=True)
        separator = (
            re.escape(thousands) if thousands else "[.  '’]" if decimal == "," else "[,  '’]"
        )
    else:
        separator = re.escape(thousands or "")
    point = re.escape(decimal)
    groups = rf"|\d{{1,3}}(?:{separator}\d{{3}})+" if separator else ""
    pattern = rf"[+-]?(?:\d+{groups})?(?:{point}\d*)?(?:[eE][+-]?\d+)?"
    fits = stripped.str.fullmatch(pattern) & stripped.str.contains(r"\d")
    written = stripped.str.replace(separator, "", regex=True) if separator else stripped
    written = written.str.replace(decimal, ".", regex=False)
    return text.mask(fits.fillna(False).astype(bool), written)


def _as_seconds(text: pd.Series) -> pd.Series:
    """Durations as text with their seconds; other cells are unchanged."""
    parts = text.str.extract(DURATION)
    hours, minutes, seconds = (pd.to_numeric(parts[p]) for p in ("hours", "minutes", "seconds"))
    total = 3600 * hours + 60 * minutes + seconds.fillna(0)
    signed = total.mask(parts["sign"] == "-", -total)
    return text.mask(signed.notna(), signed.astype("string"))


def date_parts(words: pd.Series, date_format: str) -> pd.DataFrame:
    """Dates as numbers: their parts, and the days since 1970. Cells that are not dates are NaN.

    Args:
        words: text, or integers such as 20240131.
        date_format: a ``strptime`` format, or ``ISO8601``.
    """
    if not is_string_dtype(words):
        words = words.map(lambda value: f"{value:.0f}", na_action="ignore").astype("str")
    iso = date_format == "ISO8601"
    dates = pd.to_datetime(words, format=date_format, errors="coerce", utc=iso)
    dates = dates.dt.tz_localize(None) if iso else dates
    parts = {"year": dates.dt.year, "month": dates.dt.month, "day": dates.dt.day}
    parts |= {"weekday": dates.dt.weekday, "hour": dates.dt.hour}
    parts |= {"elapsed": (dates - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)}
    columns = {f"{words.name}.{part}": values.astype("float64") for part, values in parts.items()}
    return pd.DataFrame(columns, words.index)
