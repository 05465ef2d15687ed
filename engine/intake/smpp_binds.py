"""The applications that may bind, and the binds they have: one registry for all SMPP listeners of a node.

Delivery finds here over which binds an application can be sent its receipts and answers (delivery.sms_ports.Receivers).
"""

import hmac
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from engine.base.metrics import Metrics
from engine.base.settings import Account as Row
from engine.base.settings import Settings
from engine.intake.policy import Address
from engine.net.smpp_wire import Wire
from engine.protocol.smpp_states import State

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
_RECEIVING: Final = (State.BOUND_RX, State.BOUND_TRX)
_TYPES: Final = {State.BOUND_TX: "transmitter", State.BOUND_RX: "receiver", State.BOUND_TRX: "transceiver"}


class Bind(Wire):
    """A connection that is, or may become, a bind."""

    def shut_down(self) -> None:
        """Unbind after the answers that are owed; who is not bound has nothing to wait for."""
        raise NotImplementedError


class Account:
    """One application. binds: those of all its connections, the newest last."""

    def __init__(self, row: Row) -> None:
        self.binds: list[Bind] = []
        self._tokens, self._filled_at = 1.0, 0.0
        self.reload(row)

    def reload(self, row: Row) -> None:
        self.row = row
        self._networks = [ipaddress.ip_network(text, strict=False) for text in row.networks]

    def may_come_from(self, address: Address | None) -> bool:
        return is_in(address, self._networks)

    def has_password(self, password: bytes) -> bool:
        """That of the settings; one that is not set is nobody's."""
        return bool(self.row.password) and hmac.compare_digest(password, self.row.password.encode())

    def may_submit(self, messages: int, now: float) -> bool:
        """Whether its rate allows so many more. now: monotonic. What it may in a second, it may at once."""
        rate = self.row.rate
        if rate is None:
            return True
        burst = max(1.0, float(rate))
        self._tokens = min(burst, self._tokens + (now - self._filled_at) * rate) if self._filled_at else burst
        self._filled_at = now
        if self._tokens < min(messages, burst):
            return False
        self._tokens -= messages
        return True


class Binds:
    """See above. bound: told a system_id when a bind that receives is there; last: when its last one went.

    call: told one that has none while something waits for it.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        bound: Callable[[str], None] = lambda system_id: None,
        last: Callable[[str], None] = lambda system_id: None,
        call: Callable[[str], None] = lambda system_id: None,
    ) -> None:
        self._told = bound
        self._last = last
        self.call = call
        self._gauges = {state: metrics.sms_binds.labels(name) for state, name in _TYPES.items()}
        self._bound: dict[Bind, State] = {}  #: all binds, as they were made
        self._accounts: dict[str, Account] = {}
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Use other settings; those who may not bind any more are unbound."""
        self._most = settings.sms.max_binds
        rows = {row.system_id: row for row in settings.account}
        gone = [account for system_id, account in self._accounts.items() if system_id not in rows]
        known = self._accounts
        self._accounts = {}
        for system_id, row in rows.items():
            account = self._accounts[system_id] = known.get(system_id) or Account(row)
            account.reload(row)
        for account in gone:
            for bind in list(account.binds):
                bind.shut_down()

    def account(self, system_id: str) -> Account | None:
        return self._accounts.get(system_id)

    def has_room(self, account: Account) -> bool:
        """Whether it may have one more bind."""
        return len(self._bound) < self._most and len(account.binds) < account.row.max_binds

    def enter(self, account: Account, bind: Bind) -> None:
        """It is bound, and the bind_resp is on its way."""
        state = bind.session.state
        account.binds.append(bind)
        self._bound[bind] = state
        self._gauges[state].inc()
        if state in _RECEIVING:
            self._told(account.row.system_id)

    def leave(self, account: Account, bind: Bind) -> None:
        """It is no more; may be said twice."""
        state = self._bound.pop(bind, None)
        if state is None:
            return
        account.binds.remove(bind)
        self._gauges[state].dec()
        if state in _RECEIVING and not self._has_receiver(account):
            self._last(account.row.system_id)

    def receivers(self, system_id: str) -> Sequence[Wire]:
        """Those that may be sent deliver_sm now, the one with the most room first."""
        account = self._accounts.get(system_id)
        if account is None:
            return ()
        able = [bind for bind in account.binds if bind.session.state in _RECEIVING and bind.transport is not None]
        return sorted(able, key=lambda wire: -wire.session.room)

    def all(self) -> Iterator[tuple[Account, Bind, str]]:
        """Every bind with its account and its kind, for operators."""
        for account in self._accounts.values():
            for bind in account.binds:
                yield account, bind, _TYPES[self._bound[bind]]

    def _has_receiver(self, account: Account) -> bool:
        return any(self._bound[bind] in _RECEIVING for bind in account.binds)


def is_in(address: Address | None, networks: Networks) -> bool:
    """Whether an application may come from there; without networks, from anywhere. None: from nobody knows where."""
    return not networks or (address is not None and any(address in network for network in networks))


def describe(state: State) -> str:
    """A bind in words."""
    return _TYPES[state]
