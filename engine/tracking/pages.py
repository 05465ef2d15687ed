"""The pages that people see, English or Russian: to unsubscribe, and for a link that leads nowhere any more.

Plain HTML, no script, nothing from elsewhere; the address is masked, as a page may be forwarded or indexed.
"""

import base64
import hashlib
import html
from collections.abc import Mapping

from engine.message.address import MAX_LOCAL_BYTES

_STYLE = (
    "body{font:1.1em/1.5 system-ui,sans-serif;max-width:34em;margin:3em auto;padding:0 1em;color:#222;background:#fff}"
    "button{font:inherit;display:block;width:100%;margin:.6em 0;padding:.6em;border:1px solid #888;border-radius:.3em;"
    "background:#f4f4f4;cursor:pointer}button.first{background:#1a5fb4;border-color:#1a5fb4;color:#fff}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

#: Of every page.
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-robots-tag", b"noindex, nofollow"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"vary", b"accept-language"),
    (
        b"content-security-policy",
        (
            f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        ).encode(),
    ),
)

_EN = {
    "title": "Unsubscribe",
    "intro": "Messages to {address}",
    "stream": "Unsubscribe from “{stream}”",
    "all": "Unsubscribe from all messages of this sender",
    "pause": "Pause for 30 days",
    "not-me": "This is not me: I never asked for these messages",
    "nothing": "Nothing is changed until you press a button.",
    "done": "Done",
    "done:one-click": "{address} is unsubscribed.",
    "done:stream": "{address} is unsubscribed from “{stream}”.",
    "done:all": "{address} gets no more messages of this sender.",
    "done:pause": "{address} gets no messages for 30 days.",
    "done:not-me": "Thank you. {address} gets no more messages of this sender.",
    "done:kept": "Nothing was left to do: {address} gets none of these messages.",
    "gone": "This link leads nowhere any more",
    "gone:text": "It has expired, or whoever sent it has withdrawn it.",
    "failed": "That did not work",
    "failed:text": "Nothing was changed. Please try again in a few minutes.",
    "what": "Please press one of the buttons.",
}
_RU = {
    "title": "Отписка",
    "intro": "Письма на {address}",
    "stream": "Отписаться от «{stream}»",
    "all": "Отписаться от всех писем этого отправителя",
    "pause": "Приостановить на 30 дней",
    "not-me": "Это не я: я не просил этих писем",
    "nothing": "Пока вы не нажмёте кнопку, ничего не изменится.",
    "done": "Готово",
    "done:one-click": "{address}: подписка отменена.",
    "done:stream": "{address}: подписка на «{stream}» отменена.",
    "done:all": "{address}: писем этого отправителя больше не будет.",
    "done:pause": "{address}: писем не будет 30 дней.",
    "done:not-me": "Спасибо. {address}: писем этого отправителя больше не будет.",
    "done:kept": "Делать было нечего: на {address} эти письма не приходят.",
    "gone": "Эта ссылка больше никуда не ведёт",
    "gone:text": "Её срок истёк, или отправитель её отозвал.",
    "failed": "Не получилось",
    "failed:text": "Ничего не изменилось. Попробуйте ещё раз через несколько минут.",
    "what": "Нажмите одну из кнопок.",
}
_LANGUAGES: Mapping[str, Mapping[str, str]] = {"en": _EN, "ru": _RU}
_MOST_LANGUAGES = 10


def language(accept: str) -> str:
    """Which of ours a reader knows best, by Accept-Language (RFC 9110 12.5.4); English where he knows neither."""
    best, weight = "en", 0.0
    for entry in accept.split(",")[:_MOST_LANGUAGES]:
        name, _, rest = entry.strip().partition(";")
        quality = 1.0
        if rest.strip().startswith("q="):
            try:
                quality = float(rest.strip()[2:])
            except ValueError:
                continue
        known = name.strip().lower().partition("-")[0]
        if known in _LANGUAGES and weight < quality <= 1.0:
            best, weight = known, quality
    return best


def masked(address: str) -> str:
    """An address that its owner knows again, and nobody else reads: "b•••@e•••.org"."""
    local, _, domain = address[: MAX_LOCAL_BYTES + 256].rpartition("@")
    name, dot, top = domain.rpartition(".")
    return f"{local[:1]}•••@{name[:1]}•••{dot}{top}" if dot else f"{local[:1]}•••@{top[:1]}•••"


def unsubscribe(lang: str, address: str, stream: str, asked: bool = False) -> bytes:
    """The page with the buttons. asked: something was sent that is none of them."""
    words = _LANGUAGES[lang]
    ways = ("stream", "all", "pause", "not-me") if stream else ("all", "pause", "not-me")
    buttons = "".join(
        f"<button{' class=first' * (not n)} name=do value={way}>{_text(words[way], address, stream)}</button>"
        for n, way in enumerate(ways)
    )
    note = words["what"] if asked else words["nothing"]
    body = f"<p>{_text(words['intro'], address, stream)}</p><form method=post>{buttons}</form><p>{note}</p>"
    return _page(lang, words["title"], body)


def done(lang: str, way: str, address: str, stream: str) -> bytes:
    """What was done. way: of unsubscribe.WAYS, or "kept": it held already."""
    words = _LANGUAGES[lang]
    return _page(lang, words["done"], f"<p>{_text(words[f'done:{way}'], address, stream)}</p>")


def gone(lang: str) -> bytes:
    return _plain(lang, "gone")


def failed(lang: str) -> bytes:
    return _plain(lang, "failed")


def _plain(lang: str, name: str) -> bytes:
    words = _LANGUAGES[lang]
    return _page(lang, words[name], f"<p>{words[f'{name}:text']}</p>")


def _text(text: str, address: str, stream: str) -> str:
    return text.format(address=f"<b>{html.escape(masked(address))}</b>", stream=html.escape(stream))


def _page(lang: str, title: str, body: str) -> bytes:
    head = (
        f'<!doctype html><html lang={lang}><head><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f'<meta name=robots content="noindex, nofollow"><meta name=referrer content=no-referrer>'
        f"<title>{title}</title><style>{_STYLE}</style></head>"
    )
    return f"{head}<body><h1>{title}</h1>{body}</body></html>".encode()
