"""Numbers and dates as people write them. Pure functions, kept with a model."""

import re

import pandas as pd
from pandas.api.types import is_string_dtype

# What etl.parse may call a column, and what such cells have around their number
DECORATIONS = {
    "number": "",
    "currency": r"[$€£¥₹₽₩₺]|(?<![A-Za-z])(?:[A-Z]{3}|kr|zł|Fr\.?|US\$)(?![A-Za-z])",
    "percent": r"\s*(?:%|percent|pct)$",
    "unit": r"\s*[A-Za-zµ°²³/]+[.²³]?$",
}


def plain(
    text: pd.Series, decimal: str = ".", thousands: str | None = "", how: str = ""
) -> pd.Series:
    """Text cells with numbers as Python writes them; others are left as they stand.

    Args:
        text: the cells, stripped.
        decimal, thousands: the signs in a number.
        how: a key of :data:`DECORATIONS`: also leave out what stands around the number, such as
            a currency, and take ``(5)`` and a typographic minus for negative.
    """
    bare = text
    if how:
        bare = text.str.replace("[\u2212\u2013]", "-", regex=True)
        bare = bare.str.replace(r"^\((.*)\)$", r"-\1", regex=True)
        bare = bare.str.replace(DECORATIONS[how], "", regex=True).str.strip()
        bare = bare.str.replace(r"^-\s+", "-", regex=True)
        between = re.escape(thousands) if thousands else "[.  '’]" if decimal == "," else "[,  '’]"
    else:
        between = re.escape(thousands or "")
    point = re.escape(decimal)
    groups = rf"|\d{{1,3}}(?:{between}\d{{3}})+" if between else ""
    form = rf"[+-]?(?:\d+{groups})?(?:{point}\d*)?(?:[eE][+-]?\d+)?"
    fits = bare.str.fullmatch(form) & bare.str.contains(r"\d")
    written = bare.str.replace(between, "", regex=True) if between else bare
    written = written.str.replace(decimal, ".", regex=False)
    return text.mask(fits.fillna(False).astype(bool), written)


def date_parts(words: pd.Series, form: str) -> pd.DataFrame:
    """Dates as numbers: their parts, and the days since 1970. What is no date has none.

    Args:
        words: text, or whole numbers such as 20240131.
        form: as ``strptime`` has it, or ``ISO8601``.
    """
    if not is_string_dtype(words):
        words = words.map(lambda value: f"{value:.0f}", na_action="ignore").astype("str")
    iso = form == "ISO8601"
    dates = pd.to_datetime(words, format=form, errors="coerce", utc=iso)
    dates = dates.dt.tz_localize(None) if iso else dates
    parts = {"year": dates.dt.year, "month": dates.dt.month, "day": dates.dt.day}
    parts |= {"weekday": dates.dt.weekday, "hour": dates.dt.hour}
    parts |= {"elapsed": (dates - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)}
    told = {f"{words.name}.{part}": values.astype("float64") for part, values in parts.items()}
    return pd.DataFrame(told, words.index)
