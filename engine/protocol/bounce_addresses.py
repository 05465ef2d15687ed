"""Addresses as reports write them: with and without type, brackets, xtext (RFC 3461 4), UTF-8 (RFC 6533 3).

Total and linear; an address is taken as far as it can be one, and given back without brackets, as it is spelled.
"""

import re

_TYPED = re.compile(r"\s*(?:rfc[ -]?822|utf-8|smtp|x-[a-z0-9-]{1,30}|unknown|addrtype|internet)\s*;\s*", re.I)
_MAX = 320  # 64 + 1 + 255, RFC 5321 4.5.3.1
#: What may stand before the at sign unquoted (RFC 5322 atext and dots, whatever is not ASCII), and behind it.
_LOCAL = (
    r"[^\s@<>()\[\]{},;:\"'`|*?!&=\\\u3000-\u303f\uff00-\uff65][^\s@<>()\[\],;:\"`|\\\u3000-\u303f\uff00-\uff65]{0,127}"
)
_DOMAIN = r"(?:\[[0-9a-fA-F.:IPvpV]{3,50}\]|[^\s@<>()\[\]{},;:\"'`|*?!&=\\/#%$^~\u3000-\u303f\uff00-\uff65]{1,255})"
ADDRESS = re.compile(rf"(?:\"[^\"@\n]{{1,64}}\"|{_LOCAL})@{_DOMAIN}")
_QUOTED = re.compile(r"\"[^\"\n]{1,64}\"@[^\s@<>\"]{1,255}")
_PREFIX = re.compile(r"(?:.{0,60}:)?(?:smtp|mailto|rfc-?822)[=:]", re.I)
_XTEXT = re.compile(r"\+(2B|3D|5C)")
_UNICODE = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_ROUTE = re.compile(r"@[^\s:@]{1,255}:")
_IMCEA = re.compile(r"IMCEA(?:EX|SMTP)-", re.I)


def address_of(value: str) -> str | None:
    """The address in a field such as Final-Recipient, "rfc822; <ada@example.org>"; None if there is none."""
    value = value[:1000]
    if match := _TYPED.match(value):
        value = value[match.end() :]
    value = value.strip("'`;, \t")
    if "<" in value:
        value = value[value.find("<") + 1 :].partition(">")[0]
    if match := _ROUTE.match(value):
        value = value[match.end() :]
    if match := _QUOTED.match(value):
        return cleaned(match[0])
    value = _PREFIX.sub("", value.partition(" ")[0], 1)
    if "\\x{" in value:
        value = _UNICODE.sub(_character, value)
    elif "+" in value:
        value = _XTEXT.sub(lambda match: chr(int(match[1], 16)), value)
    match = ADDRESS.match(value)
    return cleaned(match[0]) if match else None


def addresses_in(text: str) -> list[str]:
    """Every address in a line, in order, each once."""
    if "@" not in text:
        return []
    found: dict[str, None] = {}
    for match in ADDRESS.finditer(text):
        address = cleaned(match[0])
        if address is not None:
            found.setdefault(address)
    return list(found)


def cleaned(address: str) -> str | None:
    """Without what prose puts around an address; None if nothing is left that could be one."""
    local, _, domain = address.rpartition("@")
    domain = domain.rstrip(".-_+…。、”’»").lstrip(".-")
    local = _PREFIX.sub("", local.lstrip("-.…“‘«"))
    if not local or not domain or len(local) + len(domain) >= _MAX or not (local + domain).isprintable():
        return None
    if "." not in domain and not domain.startswith("[") and domain.lower() != "localhost":
        return None
    if domain[0] != "[" and not all(label for label in domain.split(".")):
        return None
    return f"{local}@{domain}"


def is_system(address: str) -> bool:
    """Of a mail system itself, so that a report that names it does not mean it."""
    local = address.partition("@")[0].lower()
    return local in _SYSTEM or local.startswith(
        ("mailer-daemon", "mailerdaemon", "microsoftexchange", "no-reply", "noreply")
    )


_SYSTEM = frozenset((
    "postmaster", "mailer-daemon", "mailerdaemon", "mail-daemon", "maildaemon", "daemon", "mdaemon", "root", "abuse",
    "helpdesk", "support", "hostmaster", "webmaster", "admin-mail", "smtp", "mail-admin", "mailadmin", "mmdf", "uucp",
    "mail_delivery_subsystem", "mail-delivery-subsystem", "mailsystem", "mailerservice", "system-administrator",
))  # fmt: skip


def _character(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return chr(code) if 0x20 <= code < 0x110000 and not 0xD800 <= code < 0xE000 else "�"
