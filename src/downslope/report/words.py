"""Numbers, names and sentences as the report shows them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from downslope.estimate import percent
from downslope.report.reading import mapping, number

NAME_WIDTH = 60  # characters of a name in a table
LABEL_WIDTH = 18  # and on a chart, where a tenth of the width is one word
SENTENCE_WIDTH = 1200
LEAST_SHARE = 0.005  # of the time that is worth a word
KINDS_OF_WORK = {"search": "trials", "other": "starting and other work"}
NO_VALUE, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
# Marks that turn the direction of what follows them; isolation undoes all but their look.
_TURNS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}


def cut(text: object, width: int = NAME_WIDTH) -> str:
    r"""A name on one line, invisible characters spelled out; a long one is cut, with its length.

    Example:
        >>> cut("two\nlines"), cut("x" * 1_000_000, 12)
        ('two\\nlines', 'xxxxxxxxxxx… (1,000,000 characters)')
    """
    whole = str(text)
    shown = "".join(_visible(c) for c in whole[:width])
    if len(whole) > width:
        return f"{shown[: width - 1]}… ({len(whole):,} characters)"
    return shown


def label(text: object) -> str:
    """A name short enough to fit beside a chart.

    Example:
        >>> label("mean radius of the largest nucleus")
        'mean radius of th…'
    """
    shown = "".join(_visible(c) for c in str(text)[: LABEL_WIDTH + 1])
    return shown if len(shown) <= LABEL_WIDTH else f"{shown[: LABEL_WIDTH - 1]}…"


def _visible(character: str) -> str:
    """The character, or its escape where it would not show, or would turn the text around."""
    hidden = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    if hidden or ord(character) in _TURNS:
        return character.encode("unicode_escape", "surrogatepass").decode()
    return character


def sentence(text: object) -> str:
    """A sentence with a capital letter and a full stop, cut where it is very long.

    Example:
        >>> sentence("the loss fell most")
        'The loss fell most.'
    """
    shown = cut(text, SENTENCE_WIDTH).strip()
    if not shown:
        return ""
    return shown[0].upper() + shown[1:] + ("" if shown[-1] in ".!?" else ".")


def brief(number: float, digits: int = 3) -> str:
    """A number to three digits, with a letter for thousands, millions and so on.

    Example:
        >>> brief(1_246_411), brief(56.7), brief(2.5e9), brief(-0.001)
        ('1.25M', '56.7', '2.5G', '-0.001')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.{digits}g}{unit}"
    return f"{number:.{digits}g}"


def cell(value: object) -> str:
    """A value as a cell of a table shows it.

    Example:
        >>> cell(0.123456), cell(20000), cell([256, 0.5])
        ('0.1235', '20,000', '256, 0.5')
    """
    if value is None:
        return NO_VALUE  # a dash reads as "no value", an empty cell as forgotten
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**15 else cut(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return cut(", ".join(cell(each) for each in value[:12]) or NO_VALUE)
    return cut(value)


def time_shares(spent: object) -> str:
    """The kinds of work that a run's time went to, the largest first; empty if unknown.

    Args:
        spent: seconds by kind, from a record; those below half a per cent are left out.

    Example:
        >>> time_shares({"updates": 8.1, "search": 1.0, "saving": 0.01, "compiling": 0.89})
        '81 % updates, 10 % trials, 8.9 % compiling'
    """
    known = {name: number(seconds) or 0.0 for name, seconds in mapping(spent).items()}
    total = sum(known.values())
    if total <= 0:
        return ""
    names = sorted(known, key=lambda name: -known[name])
    return ", ".join(
        f"{percent(known[name] / total)} {KINDS_OF_WORK.get(name, cut(name, LABEL_WIDTH))}"
        for name in names
        if known[name] >= LEAST_SHARE * total
    )
