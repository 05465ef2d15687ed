"""`postrider route ADDRESS...`: where mail would go and how, or why not. Asks DNS as the daemon would, sends nothing.

$ postrider route ada@example.org
ada@example.org
  route      MX of example.org
  site       mx1.example.org,mx2.example.org
  provider   other
  limits     10 connections, 100 messages a connection, 100/s (shared as "mx1.example.org,mx2.example.org")
  tls        opportunistic
  source     default: any address, EHLO mail.example.net
  hosts      1. mx1.example.org[192.0.2.7]:25
             2. mx2.example.org[192.0.2.8]:25
"""

import argparse
import asyncio
import math
from typing import TYPE_CHECKING, Any

from engine.base.clock import SystemClock
from engine.base.hostport import format_host_port, is_ip_address
from engine.base.settings import Settings, Source
from engine.base.units import counted, format_duration, format_rate
from engine.cli.common import Commands, add_config, add_json, print_json, settings_of
from engine.message.address import AddressError, destination_of
from engine.message.channels import channel_of
from engine.routing.plan import Endpoint, Limits, NoRoute, Plan

if TYPE_CHECKING:
    from engine.routing.router import Router


def register(commands: Commands) -> None:
    """Add the command to the program."""
    parser = commands.add_parser("route", help="where an address would go, and how")
    parser.add_argument(
        "address", nargs="+", metavar="ADDRESS", help="a mail address, a domain alone, sms:CARRIER, account:SYSTEM_ID"
    )
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0: all have a way now; 1: one of them has none."""
    rows = asyncio.run(_find(settings_of(args), args.address))
    if args.json:
        print_json(rows)
    else:
        print("\n\n".join(_shown(row) for row in rows))
    return 0 if all("hosts" in row for row in rows) else 1


async def _find(settings: Settings, addresses: list[str]) -> list[dict[str, Any]]:
    from engine.base.metrics import Metrics
    from engine.net.resolver import Resolver
    from engine.routing.router import Router

    clock = SystemClock()
    resolver = Resolver(settings.resolver, Metrics(), clock)
    router = Router(settings, resolver, clock)
    try:
        return await asyncio.gather(*(_row(router, clock, address) for address in addresses))
    finally:
        await resolver.close()


async def _row(router: "Router", clock: SystemClock, address: str) -> dict[str, Any]:
    """One address as a row of facts: with "hosts", or with "status", "status_code" and "reply"."""
    try:
        mail = channel_of(address)[0] == "mail"
        destination = destination_of(address if "@" in address else f"postmaster@{address}") if mail else address
    except AddressError as error:
        code, _, words = error.reply.partition(" ")
        return {"address": address, "status": "invalid", "status_code": code, "reply": words}
    row: dict[str, Any] = {"address": address, "destination": destination}
    if mail:
        match = router.route_of(destination)
        row["route"] = match.domain if match else None
    found = await router.resolve(destination)
    left = max(0.0, found.expires_at - clock.monotonic())
    holds = round(left) if math.isfinite(left) else None  # until the settings change
    if isinstance(found, NoRoute):
        return row | {
            "status": found.status.name.lower(),
            "status_code": found.status_code,
            "reply": found.reply,
            "holds_s": holds,
        }
    return row | _facts(found) | {"holds_s": holds}


def _facts(plan: Plan) -> dict[str, Any]:
    return {
        "relay": plan.site.removeprefix("relay:") if plan.site.startswith("relay:") else None,
        "site": plan.site,
        "provider": plan.provider,
        "limits": {name: getattr(plan.limits, name) for name in Limits.__dataclass_fields__},
        "tls": plan.tls,
        "login": plan.credentials[0] if plan.credentials else None,
        "source": {name: getattr(plan.source, name) for name in Source.__struct_fields__},
        "stop": [[text, seconds] for text, seconds in plan.stop],
        "hosts": [[_host(endpoint) for endpoint in group] for group in plan.hosts],
        "channel": plan.channel,
    }


def _host(endpoint: Endpoint) -> str:
    """With its address, where that was looked up."""
    known = endpoint.address != endpoint.name or is_ip_address(endpoint.name)
    return str(endpoint) if known else format_host_port(endpoint.name, endpoint.port)


def _shown(row: dict[str, Any]) -> str:
    if "hosts" not in row:
        facts = [row["address"]]
        facts += [_line("route", _way(row))] if "route" in row else []
        return "\n".join([*facts, _line(row["status"], f"{row['status_code']} {row['reply']}")])
    if row["channel"] != "mail":
        return _sms_shown(row)
    facts = [row["address"], _line("route", _way(row)), _line("site", row["site"]), _line("provider", row["provider"])]
    facts += [_line("limits", _limits(row["limits"])), _line("tls", row["tls"])]
    facts += [_line("login", row["login"])] if row["login"] else []
    facts += [_line("source", _source(row["source"]))]
    facts += [_line("stop", f"{format_duration(seconds)} after {text}") for text, seconds in row["stop"]]
    label = "hosts"
    for number, group in enumerate(row["hosts"], 1):
        for host in group:
            facts.append(_line(label, f"{number}. {host}"))
            label = ""
    return "\n".join([*facts, _line("holds", format_duration(row["holds_s"]))])


def _sms_shown(row: dict[str, Any]) -> str:
    """A carrier, or an application, which binds to us: there is no host."""
    name, limits = row["site"].partition(":")[2], row["limits"]
    if row["channel"] == "account":
        return "\n".join([row["address"], _line("route", f"[[account]] {name}: over one of its binds to us")])
    rate = "any rate" if limits["rate"] is None else format_rate(limits["rate"])
    facts = [
        _line("route", f"[[carrier]] {name}"),
        _line("limits", f"{counted(limits['connections'], 'bind')}, {rate}"),
    ]
    return "\n".join([row["address"], *facts, _line("tls", row["tls"]), _line("hosts", row["hosts"][0][0])])


def _line(label: str, text: str) -> str:
    return f"  {label:<10} {text}"


def _way(row: dict[str, Any]) -> str:
    way = f"relay {row['relay']}" if row.get("relay") else f"MX of {row['destination']}"
    if row["destination"].startswith("[") and not row.get("relay"):
        way = "the address itself"
    return f'[[route]] "{row["route"]}": {way}' if row["route"] else way


def _limits(limits: dict[str, Any]) -> str:
    rate = "any rate" if limits["rate"] is None else format_rate(limits["rate"])
    each = f"{limits['connections']} connections, {limits['messages_per_connection']} messages a connection, {rate}"
    return f'{each} (shared as "{limits["key"]}")'


def _source(source: dict[str, Any]) -> str:
    addresses = ", ".join(filter(None, (source["address"], source["address6"]))) or "any address"
    return f"{source['name']}: {addresses}, EHLO {source['ehlo']}"
