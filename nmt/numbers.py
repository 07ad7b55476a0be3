"""Numbers in messages: without exponents, and with the noun that they count."""

import math


def plain(value: float, digits: int = 3) -> str:
    """A number rounded to ``digits`` significant digits, never in scientific notation: 0.00012, 1.5, 1,235.

    All digits before the decimal point are kept; zeros at the end of the decimals are not.
    """
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def count_of(count: int, one: str, many: str = "") -> str:
    """A number and its noun: 1 line, 1,200 lines.

    Args:
        many: the plural, where it is not the noun and an s.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
