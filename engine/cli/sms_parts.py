"""`postrider sms parts`: what a text costs as SMS.

$ postrider sms parts 'Grüße – bis morgen' --transliterate --price 0.03
ucs-2, 18 units in 1 part, 0.03
  1  18 of 70  Grüße – bis morgen
transliterated: gsm, 18 units in 1 part, 0.03; 0 parts saved
  "–" becomes "-"
  1  18 of 160  Grüße - bis morgen
"""

import argparse
import sys
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from engine.base.errors import UsageError
from engine.base.log import escape
from engine.base.units import counted
from engine.cli.common import Commands, add_json, print_json

if TYPE_CHECKING:
    from engine.protocol.sms_encoded import Encoded

_JOINS = {"8": "udh-8", "16": "udh-16", "sar": "sar", "payload": "payload"}


def add(subcommands: Commands) -> None:
    """Add the command to `postrider sms`."""
    parser = subcommands.add_parser("parts", help="encoding, parts and price of a text")
    option = parser.add_argument
    option("text", metavar="TEXT", help="- is standard input")
    option(
        "--language", action="append", default=[], metavar="CODE", help="national tables allowed: tr, es, pt, hi, ..."
    )
    option(
        "--reference", choices=_JOINS, default="8", help="parts joined by a header of 8 or 16 bits, SAR, payload [8]"
    )
    option("--default-alphabet", choices=("gsm", "latin-1", "ascii"), default="gsm", help="of data_coding 0 [gsm]")
    option("--latin1", action="store_true", help="the carrier takes data_coding 3")
    option("--spare", type=int, default=0, metavar="OCTETS", help="of each part, that the carrier needs for itself")
    option("--max-parts", type=int, default=10, metavar="N", help="more is refused [10]")
    option("--transliterate", action="store_true", help="show what plain quotes, dashes and the like would save")
    option("--price", type=_price, metavar="PER_PART", help="what a part costs")
    add_json(parser)
    parser.set_defaults(run=run)


def _price(text: str) -> Decimal:
    """For argparse."""
    try:
        price = Decimal(text)
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite() or price < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a price")
    return price


def run(args: argparse.Namespace) -> int:
    """Exit status 0. Raises TextTooLong; UsageError: no such language, a limit out of range."""
    from engine.base.errors import ConfigError
    from engine.protocol.sms_data_coding import Charset
    from engine.protocol.sms_rules import Join, TextRules
    from engine.protocol.sms_shifts import LANGUAGES
    from engine.protocol.sms_text import encode_text
    from engine.protocol.sms_translit import preview

    if unknown := [code for code in args.language if code not in LANGUAGES]:
        raise UsageError([f"--language {code}: not one of {', '.join(LANGUAGES)}" for code in unknown])
    try:
        rules = TextRules(
            default_alphabet=Charset(args.default_alphabet),
            join=Join(_JOINS[args.reference]),
            spare_octets=args.spare,
            languages=tuple(LANGUAGES[code] for code in args.language),
            latin1=args.latin1,
            max_parts=args.max_parts,
        )
    except ConfigError as error:
        raise UsageError(error.problems) from None
    text = _standard_input() if args.text == "-" else args.text
    if not args.transliterate:
        row = _row(encode_text(text, rules), args.price)
        _print(row, args.json)
        return 0
    shown = preview(text, rules)
    row = _row(shown.before, args.price)
    row["transliterated"] = {
        **_row(shown.after, args.price),
        "text": shown.text,
        "parts_saved": shown.parts_saved,
        "changes": [{"from": old, "to": new, "times": times} for old, new, times in shown.changes],
    }
    _print(row, args.json)
    return 0


def _standard_input() -> str:
    """As a text is typed: without the line's end that the shell adds. What is not UTF-8 becomes U+FFFD."""
    return sys.stdin.buffer.read().decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")


def _row(encoded: "Encoded", price: Decimal | None) -> dict[str, Any]:
    tables = encoded.coding.tables
    return {
        "encoding": encoded.coding.charset.value,
        "data_coding": encoded.data_coding,
        "locking": tables.locking.name.lower() if tables.locking else None,
        "single_shift": tables.single.name.lower() if tables.single else None,
        "units": encoded.units,
        "room": encoded.room,
        "price": None if price is None else str(price * len(encoded.parts)),
        "parts": [{"units": part.units, "text": part.text} for part in encoded.parts],
    }


def _print(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json([row])
        return
    print(_summary(row))
    _print_parts(row)
    if after := row.get("transliterated"):
        print(f"transliterated: {_summary(after)}; {counted(after['parts_saved'], 'part')} saved")
        for change in after["changes"]:
            print(f'  "{escape(change["from"])}" becomes "{escape(change["to"])}"')
        _print_parts(after)


def _print_parts(row: dict[str, Any]) -> None:
    for number, part in enumerate(row["parts"], 1):
        print(f"  {number}  {part['units']} of {row['room']}  {escape(part['text'])}")


def _summary(row: dict[str, Any]) -> str:
    tables = "".join(f", {kind} {row[key]}" for kind, key in _TABLES if row[key])
    price = f", {row['price']}" if row["price"] else ""
    return f"{row['encoding']}{tables}, {counted(row['units'], 'unit')} in {counted(len(row['parts']), 'part')}{price}"


_TABLES = (("locking shift", "locking"), ("single shift", "single_shift"))
