"""Who has an answer: a keyword's target, else the account of the last message to that phone, else the number's owner.

An account that a number belongs to (`senders`) is never passed over for one that only wrote to the same phone later: an
answer is between two, and no other application may read it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.base.settings import Account, Keyword, Settings
from engine.message.sms import SentPart
from engine.message.sms_words import Heard, Words, fold_word, fold_words
from engine.storage.tables.suppression import sms_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """account: that has it, None if nobody; url: it is posted to instead. keyword: as in the settings.

    answered: the message it is an answer to. concerned: the account whose messages these are, whoever has the answer:
    its words and its texts are the ones that hold.
    """

    account: Account | None = None
    url: str = ""
    keyword: str = ""
    answered: SentPart | None = None
    concerned: Account | None = None


class AnswerRoutes:
    """See above. Made anew with each settings."""

    def __init__(self, settings: Settings) -> None:
        self._accounts = {account.system_id: account for account in settings.account}
        self._default = self._accounts.get(settings.sms.default_account)
        self._owners = {
            sms_key(sender): account for account in reversed(settings.account) for sender in account.senders
        }
        self._keywords: Sequence[tuple[str, str, Keyword]] = [
            (fold_word(row.word), sms_key(row.sender), row) for row in settings.keyword
        ]
        self._words = {
            account.system_id: Words(account.stop_words, account.start_words) for account in settings.account
        }
        self._common = Words()

    def way(self, to: str, text: str | None, last: SentPart | None) -> Way:
        """Of an answer to a number of ours. last: the last message that was sent to that phone."""
        owner = self._owners.get(sms_key(to))
        if last is not None and owner is not None and sms_key(last.sender) != sms_key(to):
            last = last if last.account == owner.system_id else None
        sender = self._accounts.get(last.account) if last is not None else None
        concerned = sender or owner or self._default
        row = self._keyword(to, text)
        if row is None:
            return Way(account=concerned, answered=last, concerned=concerned)
        account = self._accounts.get(row.account) if row.account else None
        return Way(account=account, url=row.url, keyword=row.word, answered=last, concerned=concerned)

    def heard(self, account: Account | None, text: str) -> Heard | None:
        """What the whole of a text asks for, in the common words and those of the account it concerns."""
        return (self._words[account.system_id] if account else self._common).hear(text)

    def _keyword(self, to: str, text: str | None) -> Keyword | None:
        """The first row for this number and the first word of the text."""
        if not self._keywords:
            return None
        first = next(iter(fold_words(text[:200])), "") if text else ""
        to = sms_key(to)
        for word, sender, row in self._keywords:
            if sender in ("", to) and (row.word == "*" or word == first):
                return row
        return None
