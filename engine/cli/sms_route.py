"""`postrider sms route`: which carriers may have a message to a number, in the order they are tried, and why.

$ postrider sms route +447700900123
+447700900123: GB
  1  alpha  0.03 a part  prefix 447
  2  beta   0.02 a part  country GB

By the settings alone: which of them are bound now, `postrider status` of the running daemon tells.
"""

import argparse
from typing import Any

from engine.base.errors import UsageError
from engine.base.log import escape
from engine.base.settings import Settings
from engine.cli.common import Commands, add_config, add_json, print_json, settings_of


def add(subcommands: Commands) -> None:
    """Add the command to `postrider sms`."""
    parser = subcommands.add_parser("route", help="which carriers may have a number, in what order, and why")
    option = parser.add_argument
    option("number", nargs="+", metavar="NUMBER", help="as a client would write it: +447700900123, 60999")
    option("--sender", default="", metavar="ID", help="a sender id; without one, carriers of all senders")
    option("--class", dest="message_class", choices=("transactional", "bulk"), default="bulk", help="[bulk]")
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0: each has a carrier; 1: one of them has none, or is no number."""
    rows = _rows(settings_of(args), args.number, args.sender, args.message_class)
    if args.json:
        print_json(rows)
    else:
        print("\n".join(_shown(row) for row in rows))
    return 0 if all(row.get("carriers") for row in rows) else 1


def _rows(settings: Settings, numbers: list[str], sender: str, message_class: str) -> list[dict[str, Any]]:
    """Raises UsageError: no sender id. ConfigError: routes that cannot be."""
    from engine.message.envelope import MessageClass
    from engine.message.number import NotANumber, country_of, network_of, normalise, read_sender
    from engine.routing.sms_routes import SmsRoutes

    home, routes = settings.sms.country, SmsRoutes(settings)
    try:
        sender = sender and read_sender(sender.encode(), country=home)
    except NotANumber as error:
        raise UsageError([f"--sender: {error}"]) from None
    rows: list[dict[str, Any]] = []
    for text in numbers:
        try:
            number = normalise(text, country=home)
        except NotANumber as error:
            rows.append({"number": text, "error": str(error)})
            continue
        choices = routes.explain(number, sender, MessageClass[message_class.upper()])
        rows.append(
            {
                "number": number,
                "country": country_of(number) or None,
                "network": network_of(number) or None,
                "carriers": [
                    {"carrier": one.carrier.name, "price": str(routes.price(one.carrier.name)), "why": one.fits}
                    for one in choices
                ],
            }
        )
    return rows


def _shown(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{escape(row['number'])}: {row['error']}"
    carriers = row["carriers"]
    where = row["network"] or row["country"] or ("of no country" if row["number"][0] == "+" else "a short code")
    lines = [f"{row['number']}: {where}"]
    names, prices = ([len(one[key]) for one in carriers] or [0] for key in ("carrier", "price"))
    for place, one in enumerate(carriers, 1):
        name, price = one["carrier"].ljust(max(names)), one["price"].ljust(max(prices))
        lines.append(f"  {place}  {name}  {price} a part  {one['why']}")
    return "\n".join(lines if carriers else [*lines, "  no [[carrier]] may have it"])
