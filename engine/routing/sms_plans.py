"""Plans of destinations that no DNS knows: carriers, applications that are bound to us, and folders of replies."""

from typing import Final, Literal, cast

from engine.base.settings import Carrier, Settings, Source, TlsLevel
from engine.message.channels import account_key, box_key, carrier_key, channel_of
from engine.message.outcome import Status
from engine.routing.plan import Endpoint, Limits, NoRoute, Plan

#: As long as these settings hold.
_FOREVER: Final = float("inf")
#: A destination without a row of settings is looked up again after so long; a reload is sooner.
_UNKNOWN_S: Final = 300.0
#: A bind is not given up because it has carried its share.
_MESSAGES: Final = 1 << 60
#: Of settings.
_TABLES: Final = {"carrier": "carrier", "account": "account", "box": "inbound"}


class SmsPlans:
    """Of all carriers and accounts of some settings. Nothing here waits, and nothing but a reload makes it wrong."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self._plans = {carrier_key(row.name): _to_carrier(row, source) for row in settings.carrier}
        for account in settings.account:
            self._add(account_key(account.system_id), account.system_id, "account", source)
        for inbound in settings.inbound:
            self._add(box_key(inbound.domain), inbound.domain, "box", source)

    def _add(self, key: str, name: str, channel: Literal["account", "box"], source: Source) -> None:
        """One agent at a time, as fast as it can."""
        limits = Limits(key=key, connections=1, messages_per_connection=_MESSAGES, rate=None)
        self._plans[key] = Plan(
            destination=key, site=key, provider=channel, hosts=((Endpoint(name, name, 0),),), tls="none",
            source=source, limits=limits, credentials=None, stop=(), expires_at=_FOREVER, channel=channel,
        )  # fmt: skip

    def plan(self, destination: str, via: str, now: float) -> Plan | NoRoute | None:
        """None: this is mail. via: the carrier that an operator chose instead.

        A way of another kind means nothing to a delivery: `move --all --relay HOST:PORT` is about mail.
        """
        found = self._plans.get(destination)
        if found is not None and not via:
            return found
        channel, name = channel_of(destination)
        if channel == "mail":
            return None
        if channel == "carrier" and channel_of(via)[0] == "carrier":
            found, name = self._plans.get(via), channel_of(via)[1]
        if found is None:
            return NoRoute(Status.DEFERRED, "4.4.4", f"there is no [[{_TABLES[channel]}]] {name}", now + _UNKNOWN_S)
        return found


def _to_carrier(row: Carrier, source: Source) -> Plan:
    key = carrier_key(row.name)
    # Of a pair only one bind sends: for all kinds, `binds` are those that do.
    rate = None if row.rate is None else float(row.rate)
    limits = Limits(key=key, connections=row.binds, messages_per_connection=_MESSAGES, rate=rate)
    return Plan(
        destination=key, site=key, provider=row.name, hosts=((Endpoint(row.host, row.host, row.port),),),
        tls=cast(TlsLevel, row.tls),
        source=source, limits=limits, credentials=None, stop=(), expires_at=_FOREVER, channel="carrier",
    )  # fmt: skip
