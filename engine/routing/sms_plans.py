"""Plans of destinations that no DNS knows: carriers, and applications that are bound to us."""

from engine.base.settings import Carrier, Settings, Source
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
    """Of all carriers and accounts of some settings."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self._plans = {carrier_key(row.name): _to_carrier(row, source) for row in settings.carrier}
        for account in settings.account:
            self._plans[account_key(account.system_id)] = _to_account(account.system_id, source)

    def plan(self, destination: str, via: str, now: float) -> Plan | NoRoute | None:
        """None: this is mail. via: the carrier that an operator chose instead."""
        channel, name = channel_of(via or destination)
        if channel == "mail" and channel_of(destination)[0] == "mail":
            return None
        found = self._plans.get(via or destination)
        if found is None:
            why = f"there is no [[{channel}]] {name}" if channel != "mail" else f"{via} takes no SMS"
            return NoRoute(Status.DEFERRED, "4.4.4", why, now + _UNKNOWN_S)
        return found


def _to_carrier(row: Carrier, source: Source) -> Plan:
    key = carrier_key(row.name)
    limits = Limits(key=key, connections=row.binds, messages_per_connection=_MESSAGES, rate=row.rate)
    return Plan(
        destination=key, site=key, provider=row.name, hosts=((Endpoint(row.host, row.host, row.port),),), tls=row.tls,
        source=source, limits=limits, credentials=None, stop=(), expires_at=_FOREVER, channel="carrier",
    )  # fmt: skip


def _to_account(system_id: str, source: Source) -> Plan:
    key = account_key(system_id)
    limits = Limits(key=key, connections=1, messages_per_connection=_MESSAGES, rate=None)
    return Plan(
        destination=key, site=key, provider=_ACCOUNT, hosts=((Endpoint(system_id, system_id, 0),),), tls="none",
        source=source, limits=limits, credentials=None, stop=(), expires_at=_FOREVER, channel="account",
    )  # fmt: skip
