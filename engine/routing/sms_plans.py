"""Plans of destinations that no DNS knows: carriers, and applications that are bound to us."""

from typing import cast

from engine.base.settings import Carrier, Settings, Source, TlsLevel
from engine.message.outcome import Status
from engine.message.sms import account_key, carrier_key, channel_of
from engine.routing.plan import Endpoint, Limits, NoRoute, Plan

#: As long as these settings hold.
_FOREVER = float("inf")
#: A destination without a row of settings is looked up again after so long; a reload is sooner.
_UNKNOWN_S = 300.0
#: A bind is not given up because it has carried its share.
_MESSAGES = 1 << 60
#: The applications' metric label.
_ACCOUNT = "account"


class SmsPlans:
    """Of all carriers and accounts of some settings. Nothing here waits, and nothing but a reload makes it wrong."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self._plans = {carrier_key(row.name): _to_carrier(row, source) for row in settings.carrier}
        for account in settings.account:
            self._plans[account_key(account.system_id)] = _to_account(account.system_id, source)

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
            return NoRoute(Status.DEFERRED, "4.4.4", f"there is no [[{channel}]] {name}", now + _UNKNOWN_S)
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


def _to_account(system_id: str, source: Source) -> Plan:
    key = account_key(system_id)
    limits = Limits(key=key, connections=1, messages_per_connection=_MESSAGES, rate=None)
    return Plan(
        destination=key, site=key, provider=_ACCOUNT, hosts=((Endpoint(system_id, system_id, 0),),), tls="none",
        source=source, limits=limits, credentials=None, stop=(), expires_at=_FOREVER, channel="account",
    )  # fmt: skip
