"""The text of a receipt: from bytes to the values of its labels.

Labels are looked for one after the other, in any order, case and spelling; a value runs to the next label. `text:`
starts the tail, which is the start of the message itself and is not searched: it may hold labels of its own.
"""

import re
from collections.abc import Iterator
from typing import Final

UDH_INDICATOR: Final = 0x40  #: in esm_class: a user data header comes first
UCS2: Final = 8  #: the data_coding

# A label does not start inside a word, nor after a hyphen, as in sub-err. `ID:0076` right after a colon is a code of
# CMPP (stat:ID:0076). Spaces are limited so that a screen full of them costs nothing. The first letters, looked at on
# their own, halve the time.
_LABEL: Final = re.compile(
    r"""(?=[idsetm])(?<![^\W\d])(?<!-)(?:
        (?P<id>           (?<!:)(?:(?:message|msg)[ _-]?)?id )
      | (?P<submitted_at> submit[ _-]{0,2}(?:date|time) )
      | (?P<done_at>      done[ _-]{0,2}(?:date|time) )
      | (?P<sub>          sub )
      | (?P<dlvrd>        dlvrd )
      | (?P<stat>         stat(?:e|us)? )
      | (?P<err>          err(?:or)?(?:[ _-]?code)? )
      | (?P<text>         text )
    )\s{0,4}:""",
    re.IGNORECASE | re.VERBOSE,
)
#: All that str.split splits at, and the NUL that ends many a receipt.
_BLANK: Final = "\0" + "".join(filter(str.isspace, map(chr, range(0x3001))))
_BETWEEN: Final = _BLANK + ",;|"


# Exactly the form of appendix B, as most SMSCs write it; `labelled` reads it alike, seven times slower.
_USUAL: Final = re.compile(
    rb"id:([!-9;-~]+) sub:([0-9]{3}) dlvrd:([0-9]{3}) submit date:([0-9]{10,12}) done date:([0-9]{10,12})"
    rb" stat:([A-Z]+) err:([0-9A-Za-z]{1,3}) [Tt]ext:([\x20-\x7e]*)"
)
_NAMES: Final = ("id", "sub", "dlvrd", "submitted_at", "done_at", "stat", "err", "text")


def usual(message: bytes, data_coding: int, esm_class: int) -> dict[str, str] | None:
    """The values of a receipt in the usual form, None: it is in another."""
    if data_coding == UCS2 or esm_class & UDH_INDICATOR:
        return None
    match = _USUAL.fullmatch(message)
    if match is None:
        return None
    values = dict(zip(_NAMES, [group.decode("ascii") for group in match.groups()], strict=True))
    values["id"] = values["id"].strip(_BETWEEN)
    values["text"] = values["text"].strip(_BLANK)
    if not values["text"]:
        del values["text"]
    return values if values["id"] else None


def labelled(text: str) -> dict[str, str]:
    """By label (id, submitted_at, done_at, sub, dlvrd, stat, err, text) the first value that is not blank."""
    labels = []
    for match in _LABEL.finditer(text):
        labels.append(match)
        if match.lastgroup == "text":
            break
    ends = [following.start() for following in labels[1:]] + [len(text)]
    values: dict[str, str] = {}
    for label, end in zip(labels, ends, strict=False):
        name = label.lastgroup or ""
        value = text[label.end() : end].strip(_BLANK if name == "text" else _BETWEEN)
        if value:
            values.setdefault(name, value)
    return values


def readings(message: bytes, data_coding: int, esm_class: int) -> Iterator[str]:
    """What the bytes may say, the likeliest first.

    data_coding and the header's flag give the order and no more, since both are often wrong. Trying is safe: ASCII
    read as UCS-2, or the reverse, holds no labels.
    """
    bodies = [message]
    if esm_class & UDH_INDICATOR and message:
        bodies.insert(0, message[1 + message[0] :])
    for body in bodies:
        if data_coding == UCS2:
            yield from _wide(body)
            yield _narrow(body)
        else:
            yield _narrow(body)
            yield from _wide(body)


def _narrow(body: bytes) -> str:
    """One byte a character, or UTF-8. 0x11 is the underscore of GSM 03.38, and nothing a receipt has a use for."""
    body = body.replace(b"\x11", b"_")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("latin-1")


def _wide(body: bytes) -> Iterator[str]:
    """UCS-2 of either byte order; an odd last byte is dropped."""
    yield body.decode("utf-16-be", "ignore")
    yield body.decode("utf-16-le", "ignore")
