"""What settings of answers and opt-outs must satisfy: rules of fields, and what rows say about each other.

Rules are as in settings_rules.py, checks as in settings_checks.py, which use these.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.base.settings import Keyword

Report = Callable[[str, str], None]
Rows = Sequence[tuple[int, Any]]
#: Ten parts of UCS-2: what a phone is sent in one go, and what it costs, has an end.
_MAX_TEXT = 670
_MAX_WORD = 40


def word(value: str, base: Path) -> str:
    """One word of letters or digits, or "*"."""
    if value != "*" and (not _letters(value) or len(value.split()) != 1 or len(value) > _MAX_WORD):
        raise ValueError(f'"{value}" is not one word of at most {_MAX_WORD} characters, or "*"')
    return value


def words(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    """Whole messages: words, or a few of them."""
    for text in value:
        if not _letters(text) or len(text) > _MAX_WORD:
            raise ValueError(f'"{text}" is not a word of at most {_MAX_WORD} characters')
    return value


def text(value: str, base: Path) -> str:
    """Of a message to a phone; empty: none is sent."""
    if len(value) > _MAX_TEXT:
        raise ValueError(f"{len(value)} characters; {_MAX_TEXT} or less")
    return value


def one_target(row: Keyword) -> str:
    """An account or a URL, and not both."""
    if bool(row.account) is not bool(row.url):
        return ""
    return "given, account is, too: one of the two" if row.url else "missing, and so is account: one of the two"


def check_answers(tables: Mapping[str, Rows], sms: Any, report: Report) -> None:
    """Accounts that answers go to must be there."""
    accounts = {row.system_id for _, row in tables["account"]}
    for number, row in tables["keyword"]:
        if row.account and row.account not in accounts:
            report(f"[[keyword]] {number} account", f'"{row.account}" is not the system_id of an [[account]]')
    if sms.default_account and sms.default_account not in accounts:
        report("[sms] default_account", f'"{sms.default_account}" is not the system_id of an [[account]]')


def _letters(value: str) -> bool:
    return any(unicodedata.category(char)[0] in "LN" for char in value)
