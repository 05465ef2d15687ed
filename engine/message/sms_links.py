"""Links of an SMS: which there are, and the text with the short ones of a recipient in their place."""

from msgspec.structs import replace

from engine.message.link_target import target_of
from engine.message.short_link import MAX_LINKS, ShortCodes, ShortLink
from engine.message.sms import Sms
from engine.message.text_urls import urls_in


def links_in(text: str, ours: str) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
    """Where the links of a text stand that may be short, and where they lead; no more than MAX_LINKS.

    ours: what short ones begin with: those stay.
    """
    spans, targets = [], []
    # A byte for each character, so that places are the same; what is not ASCII is of no URL.
    for start, end, _, ambiguous in urls_in(bytes(min(ord(char), 0x80) for char in text)):
        target = target_of(text[start:end])
        if ambiguous or target.reason or text[start:end].lower().startswith(f"{ours.lower()}/"):
            continue
        spans.append((start, end))
        targets.append(target.url)
        if len(spans) == MAX_LINKS:
            break
    return tuple(spans), tuple(targets)


def with_short_links(sms: Sms, index: int, codes: ShortCodes) -> Sms:
    """What the recipient with this index is sent. A message without short links is what it was."""
    short, text = sms.short, sms.text
    if short is None or text is None:
        return sms
    number = short.number + (index if short.each else 0)
    pieces, behind = [], 0
    for link, (start, end) in enumerate(short.spans):
        pieces += [text[behind:start], short.base_url, "/", codes.code(ShortLink(number, link))]
        behind = end
    return replace(sms, text="".join((*pieces, text[behind:])), short=None)
