"""Plans of carriers and of applications: at hand without a look-up, good until the settings change."""

import asyncio
import math
from pathlib import Path

import pytest

from engine.base.settings import Account, Carrier, Node, Route, Settings
from engine.base.units import Rate
from engine.cli.main import main
from engine.message.outcome import Status
from engine.routing.plan import UNRESOLVED, Endpoint, Limits, NoRoute, Plan
from engine.routing.routes import password_problems
from tests.support.routing import House

ALPHA = Carrier(
    name="alpha", host="smsc.example.net", system_id="us", binds=3, rate=Rate(50), tls="verify", bind="pair"
)
BETA = Carrier(name="beta", host="192.0.2.7", port=2776, system_id="us")
SHOP = Account(system_id="shop", password="x")


def house(**more: object) -> House:
    return House(carrier=(ALPHA, BETA), account=(SHOP,), **more)


def test_a_carrier() -> None:
    router = house().router
    plan = router.cached("sms:alpha")
    assert isinstance(plan, Plan)
    assert (plan.site, plan.provider, plan.channel, plan.tls) == ("sms:alpha", "alpha", "carrier", "verify")
    assert plan.hosts == ((Endpoint("smsc.example.net", "smsc.example.net", 2775),),)
    assert plan.limits == Limits(key="sms:alpha", connections=3, messages_per_connection=1 << 60, rate=50.0)
    assert plan.expires_at == math.inf
    assert router.cached("sms:alpha") is plan, "or its queue would be set up anew for each message"
    other = router.cached("sms:beta")
    assert isinstance(other, Plan)
    assert (other.limits.rate, other.limits.connections) == (None, 1)
    assert router.provider_of("sms:alpha") == "alpha"


def test_an_application() -> None:
    plan = house().router.cached("account:shop")
    assert isinstance(plan, Plan)
    assert (plan.site, plan.provider, plan.channel) == ("account:shop", "account", "account")
    assert (plan.limits.connections, plan.limits.rate) == (1, None)


def test_resolving_asks_nobody() -> None:
    rooms = house(troubled=("",))
    assert rooms.plan("sms:alpha") is rooms.router.cached("sms:alpha")
    rooms.router.forget("sms:alpha")
    assert rooms.router.cached("sms:alpha") is not None
    assert rooms.router.cached("example.net") is None


@pytest.mark.parametrize(
    ("destination", "via", "why"),
    [
        ("sms:gamma", "", "there is no [[carrier]] gamma"),
        ("sms:alpha", "sms:gamma", "there is no [[carrier]] gamma"),
        ("account:bank", "", "there is no [[account]] bank"),
    ],
)
def test_what_is_not_in_the_settings_waits(destination: str, via: str, why: str) -> None:
    found = house().router.cached(destination, via)
    assert isinstance(found, NoRoute)
    assert (found.status, found.reply) == (Status.DEFERRED, why)


def test_a_carrier_an_operator_chose() -> None:
    router = house().router
    assert router.cached("sms:alpha", "sms:beta") is router.cached("sms:beta")
    assert router.cached("sms:gone", "sms:beta") is router.cached("sms:beta")


def test_a_way_of_another_kind_means_nothing() -> None:
    rooms = house(route=(Route(domain="example.net", relay="10.0.0.1:25"),))
    assert rooms.router.cached("sms:alpha", "relay.test:25") is rooms.router.cached("sms:alpha")
    assert rooms.router.cached("account:shop", "sms:beta") is rooms.router.cached("account:shop")
    found = asyncio.run(rooms.router.resolve("example.net", "sms:beta"))
    assert isinstance(found, Plan)
    assert found.site == "relay:10.0.0.1:25"


def test_a_reload() -> None:
    rooms = house()
    assert rooms.router.provider_of("sms:gamma") != UNRESOLVED
    gamma = Carrier(name="gamma", host="a", system_id="us")
    rooms.router.reload(Settings(node=Node(name="out.example.org"), carrier=(gamma,)))
    assert isinstance(rooms.router.cached("sms:gamma"), Plan)
    assert isinstance(rooms.router.cached("sms:alpha"), NoRoute)


def test_password_files(tmp_path: Path) -> None:
    rows = []
    for name, text in (("good", "secret\n"), ("long", "seventeen octets.\n"), ("empty", "\n")):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o600)
        rows.append(Carrier(name=name, host="a", system_id="us", password_file=str(path)))
    assert password_problems(Settings(carrier=tuple(rows))) == [
        f"[[carrier]] 2 password_file: {tmp_path}/long: 17 octets are too long for SMPP; 16 or less",
        f"[[carrier]] 3 password_file: {tmp_path}/empty must hold the password and nothing else",
    ]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "providers.toml").write_text("")
    (tmp_path / "postrider.toml").write_text(
        '[[carrier]]\nname = "alpha"\nhost = "smsc.example.net"\nsystem_id = "us"\nbinds = 2\nrate = "50/s"\n'
        '[[account]]\nsystem_id = "shop"\npassword = "x"\n'
    )
    config = str(tmp_path / "postrider.toml")
    assert main(["route", "-c", config, "sms:alpha", "account:shop", "sms:gamma"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "sms:alpha",
        "  route      [[carrier]] alpha",
        "  limits     2 binds, 50/s",
        "  tls        none",
        "  hosts      smsc.example.net:2775",
        "",
        "account:shop",
        "  route      [[account]] shop: over one of its binds to us",
        "",
        "sms:gamma",
        "  deferred   4.4.4 there is no [[carrier]] gamma",
    ]
    assert main(["route", "-c", config, "--json", "sms:alpha"]) == 0
    assert '"holds_s": null' in capsys.readouterr().out
