"""Texts of mail as people wrote them: charsets, encoded words, quoted-printable, HTML.

Total and linear (P1): what cannot be decoded as it says is read as UTF-8, then as Latin-1; nothing raises. Only
charsets of mail are looked up: Python's registry also has codecs that are quadratic, or no charsets at all.
"""

import base64
import binascii
import html
import quopri
import re

#: As mail names them -> Python's codec; those of East Asia as their supersets, which is what is sent under their names.
_CODECS = {
    "utf8": "utf-8", "unicode11utf8": "utf-8", "usascii": "utf-8", "ascii": "utf-8", "utf7": "utf-7",
    "utf16": "utf-16", "utf16le": "utf-16-le", "utf16be": "utf-16-be",
    "koi8r": "koi8-r", "koi8u": "koi8-u", "koi8ru": "koi8-u", "gb2312": "gb18030", "gbk": "gb18030",
    "gb18030": "gb18030", "cngb": "gb18030", "cp936": "gb18030", "hzgb2312": "hz", "big5": "big5hkscs",
    "big5hkscs": "big5hkscs", "shiftjis": "cp932", "sjis": "cp932", "xsjis": "cp932", "cp932": "cp932",
    "windows31j": "cp932", "eucjp": "euc_jp", "xeucjp": "euc_jp", "iso2022jp": "iso2022_jp_ext",
    "iso2022jp1": "iso2022_jp_ext", "iso2022jp2": "iso2022_jp_2", "iso2022jp3": "iso2022_jp_3",
    "euckr": "cp949", "ksc56011987": "cp949", "ksc5601": "cp949", "cp949": "cp949", "iso2022kr": "iso2022_kr",
    "tis620": "cp874", "cp866": "cp866", "ibm866": "cp866", "cp850": "cp850", "macintosh": "mac-roman",
    "iso88591": "cp1252", "latin1": "cp1252", "iso88599": "cp1254",
    **{f"iso8859{n}": f"iso8859-{n}" for n in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)}, "iso88598i": "iso8859-8",
    **{f"{prefix}{n}": f"cp{n}" for prefix in ("windows", "cp") for n in (874, *range(1250, 1259))},
}  # fmt: skip
_ENCODED_WORD = re.compile(r"=\?([^?*\s]{1,40})(?:\*[^?\s]{0,20})?\?([bBqQ])\?([^?\n]{0,2000})\?=")
_BETWEEN_WORDS = re.compile(r"(\?=)\s+(?==\?)")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_UNSEEN = re.compile(r"<(style|script|head|title)\b|<!--", re.I)
_BREAK = re.compile(r"<(?:br|/?p|/?div|/?tr|/?li|/?h[1-6]|/?table|/?ul|/?blockquote|/?pre)\b[^<>]{0,2000}>", re.I)
_CELL = re.compile(r"</t[dh]\s*>", re.I)
_TAG = re.compile(r"<[a-zA-Z/!?][^<>]*>")
_ADDRESS_IN_BRACKETS = re.compile(r"<(?:mailto:)?([^<>@\s\"'=]{1,64}@[^<>@\s\"'=]{1,255})>")
_NULS = {0: None, 0xFEFF: None, 0x200B: None, 0xAD: None}


def decode_charset(data: bytes, charset: str) -> str:
    """The text, with the charset it says, or failing that as UTF-8, or failing that as Latin-1. NULs are left out."""
    if data.isascii() and b"\x1b" not in data and b"\0" not in data and b"~" not in data and "utf-" not in charset:
        return data.decode("ascii")
    codec = _CODECS.get(re.sub(r"[^a-z0-9]", "", charset.lower()), "utf-8")
    # What is UTF-8 by its bytes is UTF-8, whatever it says: no text in another charset looks so by chance.
    tried = ("utf-8", codec) if not data.isascii() and not codec.startswith("utf-16") else (codec,)
    for each in tried:
        try:
            text = data.decode(each)
            break
        except (UnicodeError, ValueError):
            continue
    else:
        # One broken character must not cost the rest, if there is a rest in that charset.
        text = data.decode(codec if codec not in ("utf-8", "utf-7") else "cp1252", "replace")
    return text.translate(_NULS) if not text.isascii() or "\0" in text else text


def decode_transfer(data: bytes, encoding: str) -> bytes:
    """The body behind a Content-Transfer-Encoding; what is none is passed through."""
    if encoding == "quoted-printable":
        return quopri.decodestring(data)
    if encoding == "base64":
        plain = _NOT_BASE64.sub(b"", data)
        plain = plain[: len(plain) - 1] if len(plain) % 4 == 1 else plain
        try:
            return base64.b64decode(plain + b"=" * (-len(plain) % 4))
        except binascii.Error:
            return data
    return data


def decode_words(value: str) -> str:
    """A header field's value with its encoded words (RFC 2047) decoded."""
    if "=?" not in value:
        return value
    return _ENCODED_WORD.sub(_word, _BETWEEN_WORDS.sub(r"\1", value))


def _word(match: re.Match[str]) -> str:
    charset, kind, text = match.groups()
    raw = text.encode("utf-8", "replace")
    if kind in "bB":
        return decode_charset(decode_transfer(raw, "base64"), charset)
    return decode_charset(quopri.decodestring(raw.replace(b"_", b"=20"), header=False), charset)


def text_of_html(source: str) -> str:
    """What a reader of this HTML sees, roughly: a line for each block, a tab between cells."""
    source = _without_unseen(source)
    source = _ADDRESS_IN_BRACKETS.sub(r" \1 ", source)
    source = " ".join(source.split())
    source = _CELL.sub("\t", _BREAK.sub("\n", source))
    return html.unescape(_TAG.sub("", source)).replace("\xa0", " ")


def _without_unseen(source: str) -> str:
    """Without styles, scripts and comments; what has no end goes to the end."""
    kept = []
    at = 0
    while match := _UNSEEN.search(source, at):
        kept.append(source[at : match.start()])
        end = "-->" if match[1] is None else f"</{match[1].lower()}"
        found = source.find(end, match.end())
        if found < 0:
            found = source.find(end.upper(), match.end())
        if found < 0:
            # Without an end the rest is shown: better some noise than no text.
            at = match.end()
            break
        at = source.find(">", found + len(end) - 1) + 1 or len(source)
    kept.append(source[at:])
    return "".join(kept)
