"""The DNS record of a DKIM key: how it is written, and whether what is published fits the key (RFC 6376 3.6.1)."""

from collections.abc import Sequence
from typing import NamedTuple

from engine.message.dkim_keys import SigningKey

#: RFC 1035 3.3: a character-string of a TXT record.
_STRING_BYTES = 255


class Verdict(NamedTuple):
    """Whether receivers will accept this key's signatures, and what to do or to know."""

    good: bool
    text: str


def txt_strings(record: str) -> list[str]:
    """The record cut into strings a TXT record can hold; receivers join them without spaces."""
    return [record[at : at + _STRING_BYTES] for at in range(0, len(record), _STRING_BYTES)]


def zone_line(key: SigningKey) -> str:
    """The record as a zone file has it."""
    strings = "\n    ".join(f'"{text}"' for text in txt_strings(key.record))
    return f"{key.dns_name}. IN TXT ( {strings} )"


def parse_tags(record: str) -> dict[str, str]:
    """The tags of a record; white space inside p= is dropped. Raises ValueError: no tag list, or a tag twice."""
    tags: dict[str, str] = {}
    for part in record.split(";"):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not part.strip():
            continue
        if not equals or not name:
            raise ValueError(f'"{part.strip()}" is not of the form tag=value')
        if name in tags:
            raise ValueError(f"{name}= is there twice")
        tags[name] = "".join(value.split())
    return tags


def judge(key: SigningKey, records: Sequence[str]) -> Verdict:
    """Compare a key with the TXT records found under its name."""
    if not records:
        return Verdict(False, f"no TXT record {key.dns_name}")
    if len(records) > 1:
        return Verdict(False, f"{len(records)} TXT records: receivers take any of them; leave one")
    try:
        tags, ours = parse_tags(records[0]), parse_tags(key.record)
    except ValueError as error:
        return Verdict(False, f"the record cannot be read: {error}")
    if tags.get("v", "DKIM1") != "DKIM1" or ("v" in tags and next(iter(tags)) != "v"):
        return Verdict(False, "the record must begin with v=DKIM1")
    if "p" not in tags:
        return Verdict(False, "the record has no p=")
    if not tags["p"]:
        return Verdict(False, "the key is revoked: p= is empty")
    if tags.get("k", "rsa") != ours["k"]:
        return Verdict(False, f"the record is for {tags.get('k', 'rsa')}, the key is {ours['k']}")
    if tags["p"].rstrip("=") != ours["p"].rstrip("="):
        return Verdict(False, "another key is published")
    if "h" in tags and "sha256" not in tags["h"].split(":"):
        return Verdict(False, f"h={tags['h']} forbids sha256")
    if "s" in tags and not {"*", "email"} & set(tags["s"].split(":")):
        return Verdict(False, f"s={tags['s']} is not for mail")
    if "y" in tags.get("t", "").split(":"):
        return Verdict(True, "published, but t=y says testing: receivers may ignore the signature")
    return Verdict(True, "published")
