"""`postrider sms route`: which carriers may have a message to a number, in the order they are tried, and why.

$ postrider sms route +447700900123
+447700900123: GB
  1  alpha  0.03 a part  prefix 447  bound 2 of 2, 50/s
  2  beta   0.02 a part  country GB  down: connect to 192.0.2.7:2775: Connection refused

By the settings; what is bound, at what rate and what slows it down is asked of the daemon, if it runs. Carriers that
cannot be sent to come last, as they do there.
"""

import argparse
from pathlib import Path
from typing import Any

from engine.admin.client import NotRunning, ask
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
    settings = settings_of(args)
    rows = _rows(settings, _health(settings), args.number, args.sender, args.message_class)
    if args.json:
        print_json(rows)
    else:
        print("\n".join(_shown(row) for row in rows))
    return 0 if all(row.get("carriers") for row in rows) else 1


Health = dict[str, dict[str, Any]]


def _health(settings: Settings) -> Health | None:
    """By carrier: binds that send, those of them that are bound, and that take messages; the rate just now, what keeps
    or slows it.

    None: no daemon runs.
    """
    found: Health = {}
    try:
        for row in ask(Path(settings.node.data_dir), "binds"):
            if row["side"] != "carrier" or row["bind"] == "receiver":
                continue
            one = found.setdefault(row["name"], {"bound": 0, "binds": 0, "takes": 0, "rate": None, "reason": ""})
            one["bound"] += row["state"] == "bound"
            one["takes"] += row["takes"]
            one["binds"] += 1
            one["rate"] = one["rate"] or row.get("rate")
            one["reason"] = one["reason"] or row["reason"]
    except NotRunning:
        return None
    return found


def _rows(
    settings: Settings, health: Health | None, numbers: list[str], sender: str, message_class: str
) -> list[dict[str, Any]]:
    """Raises UsageError: no sender id. ConfigError: routes that cannot be."""
    from engine.message.envelope import MessageClass
    from engine.message.number import NotANumber, country_of, network_of, normalise, read_sender
    from engine.routing.sms_routes import SmsRoutes

    def healthy(name: str) -> bool:
        return health is None or health.get(name, {}).get("takes", 0) > 0

    home, routes = settings.sms.country, SmsRoutes(settings, healthy)
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
                    {
                        "carrier": one.carrier.name,
                        "price": str(routes.price(one.carrier.name)),
                        "why": one.fits,
                        "health": health and health.get(one.carrier.name),
                    }
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
    widths = {key: max([len(one[key]) for one in carriers], default=0) for key in ("carrier", "price", "why")}
    for place, one in enumerate(carriers, 1):
        name, price, why = (one[key].ljust(width) for key, width in widths.items())
        lines.append(f"  {place}  {name}  {price} a part  {why}  {_told(one['health'])}".rstrip())
    return "\n".join(lines if carriers else [*lines, "  no [[carrier]] may have it"])


def _told(health: dict[str, Any] | None) -> str:
    if health is None:
        return ""
    rate, reason = f", {health['rate']}" if health["rate"] else "", health["reason"]
    if not health["bound"]:
        return f"down: {reason}"
    return f"bound {health['bound']} of {health['binds']}{rate}{f'; {reason}' if reason else ''}"
