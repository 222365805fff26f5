"""Times, sizes and rates as typed on the command line."""

from __future__ import annotations

import re

_SECONDS = {"us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def parse_duration(text: str) -> float:
    """Seconds from `50us`, `5ms`, `90`, `90s`, `1.5m` or `2h`.

    Example:
        >>> parse_duration("5ms"), parse_duration("2 us"), parse_duration("1.5m")
        (0.005, 2e-06, 90.0)
    """
    number, unit = _split(text)
    if number is None or unit.replace("µ", "u") not in _SECONDS:
        raise ValueError(f"{text!r} is not a time; write 60s, 5m, 2h or 50us")
    return number * _SECONDS[unit.replace("µ", "u")]


def parse_bytes(text: str) -> float:
    """Bytes from `512MB`, `8GB` (10^9) or `8GiB` (2^30).

    Example:
        >>> parse_bytes("8GB"), parse_bytes("1KiB"), parse_bytes("100")
        (8000000000.0, 1024.0, 100.0)
    """
    number, unit = _split(text)
    size = _size(unit.removesuffix("B"))
    if number is None or size is None:
        raise ValueError(f"{text!r} is not a size; write 512MB, 8GB or 8GiB")
    return number * size


def parse_rate(text: str) -> float:
    """Bytes a second from `100Mbit/s`, `1Gbit/s`, `125MB/s` or `10GB/s`.

    Example:
        >>> parse_rate("1Gbit/s"), parse_rate("125MB/s")
        (125000000.0, 125000000.0)
    """
    number, unit = _split(text)
    found = re.fullmatch(r"(\w*?)(bit|B)/s", unit)
    size = _size(found[1]) if found else None
    if number is None or found is None or size is None or number == 0:
        raise ValueError(f"{text!r} is not a rate; write 1Gbit/s or 125MB/s")
    return number * size / (8 if found[2] == "bit" else 1)


def _split(text: str) -> tuple[float | None, str]:
    """The number and what follows it; None where the text begins with none."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(\S*)", text.strip())
    return (float(found[1]), found[2]) if found else (None, "")


def _size(prefix: str) -> float | None:
    return {**_PREFIXES, **_BINARY, "K": 1e3}.get(prefix)
