"""How numbers read in a table: each function makes a column's format."""

from collections.abc import Callable


def count(value: int) -> str:
    """Return a count with thousands separated."""
    return f"{value:,}"


def fixed(digits: int) -> Callable[[float], str]:
    """Return a format with that many digits behind the point."""
    return lambda value: f"{value:.{digits}f}"


def scaled(factor: float, digits: int) -> Callable[[float], str]:
    """Return a format of value / factor: ``scaled(1e9, 3)`` shows MACs as GMACs, ``scaled(0.01, 1)`` a share as %."""
    return lambda value: f"{value / factor:.{digits}f}"


def significant(digits: int) -> Callable[[float], str]:
    """Return a format with that many significant digits and no exponent below a billion."""
    return lambda value: f"{float(f'{value:.{digits}g}'):,.10g}"
