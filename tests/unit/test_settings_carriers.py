"""Settings of carriers and accounts: what is refused, how it is said, and what is probably not meant."""

from pathlib import Path

import pytest

from engine.base.settings import Carrier, Settings
from engine.base.settings_carriers import LANGUAGES, open_secrets
from engine.base.settings_checks import warnings_of
from engine.base.settings_file import load_settings, read_settings
from engine.protocol import sms_rules, sms_shifts

CARRIER = '[[carrier]]\nname = "alpha"\nhost = "smsc.example.net"\nsystem_id = "us"\n'
ACCOUNT = '[[account]]\nsystem_id = "shop"\n'
LISTENER = '[[listener]]\nkind = "smpp"\naddress = "127.0.0.1:2775"\n'
LOCAL = CARRIER.replace("smsc.example.net", "127.0.0.1") + 'password = "x"\n'


def problems(path: Path, text: str) -> list[str]:
    (path / "providers.toml").write_text("")
    (path / "postrider.toml").write_text(text)
    return [problem.removeprefix("postrider.toml: ") for problem in read_settings(path / "postrider.toml")[1]]


def load(path: Path, text: str) -> Settings:
    assert problems(path, text) == []
    return load_settings(path / "postrider.toml")


def warnings(path: Path, text: str) -> list[str]:
    found = warnings_of(load(path, '[node]\nname = "mx.example.org"\n' + text))
    return [line for line in found if "smtp" not in line and "dkim" not in line]


def test_all_of_it(tmp_path: Path) -> None:
    text = f"""{CARRIER}port = 2776
password = "sixteen octets.."
system_type = "VMA"
tls = "verify"
prefixes = ["7", "44"]
countries = ["gb", "FR"]
networks = ["gb:Vodafone"]
senders = ["Shop", "60999", "+447700900123"]
classes = ["transactional"]
price = "0.03"
languages = ["tr", "hi"]
rate = "50/s"
{ACCOUNT}credential = "shop@example.org"
networks = ["192.0.2.0/24"]
senders = ["Shop"]
[sms]
country = "gb"
"""
    settings = load(tmp_path, text)
    [row] = settings.carrier
    assert (row.countries, row.networks, settings.sms.country) == (("GB", "FR"), ("GB:Vodafone",), "GB")


def test_what_protocol_knows() -> None:
    """The lowest layer cannot ask it."""
    assert tuple(sms_shifts.LANGUAGES) == LANGUAGES
    row = Carrier(name="a", host="a", system_id="a")
    sms_rules.TextRules(spare_octets=100, max_parts=255)
    assert (sms_rules.MAX_SPARE_OCTETS, sms_rules.MAX_PARTS) == (100, 255)
    assert row.join in set(sms_rules.Join)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('host = "a b"', 'host: "a b" is not a host: a name, or an IP address without brackets'),
        ('host = "[::1]"', 'host: "[::1]" is not a host: a name, or an IP address without brackets'),
        ("port = 0", "port: 0 is not a port, 1 to 65535"),
        ("port = 65536", "port: 65536 is not a port, 1 to 65535"),
        (
            'system_id = "sixteen-octets.."',
            'system_id: "sixteen-octets.." is not a system_id: 1 to 15 printable ASCII characters',
        ),
        ('system_id = "é"', 'system_id: "é" is not a system_id: 1 to 15 printable ASCII characters'),
        ('password = "sevenTeen octets."', "password: 17 octets are too long for SMPP; 16 or less"),
        ('password = "ééééééééé"', "password: 18 octets are too long for SMPP; 16 or less"),
        ('password = "a\\tb"', "password: control characters are not allowed"),
        ('system_type = "thirteen oct."', None),
        ('tls = "opportunistic"', 'tls: "opportunistic" is nothing that SMPP has; "none", "encrypt" or "verify"'),
        ("binds = 0", "binds: 0 is too small; 1 or more"),
        ("binds = 101", "binds: 101 is too large; 100 or less"),
        ("window = 0", "window: 0 is too small; 1 or more"),
        ("window = 10001", "window: 10001 is too large; 10000 or less"),
        (
            'prefixes = ["44", "+44", "0", ""]',
            'prefixes: "+44", "0", "": not the first digits of international numbers, such as "44", without "+"',
        ),
        ('countries = ["GBR", "1A"]', 'countries: "GBR", "1A": not a country of two letters (ISO 3166), such as "GB"'),
        (
            'networks = ["Vodafone", "GB:", "GB:O2"]',
            'networks: "Vodafone", "GB:": not a country and a network in it, such as "GB:Vodafone"',
        ),
        (
            'senders = ["", " x", "0123456789012345", "twelve chars", "eleven char", "+447700900123"]',
            'senders: "", " x", "0123456789012345", "twelve chars": not a sender id, such as "Shop" (up to 11 '
            'characters), "60999" or "+447700900123"',
        ),
        ("classes = []", "classes: none of them: the carrier would never have a message"),
        ('price = "-1"', 'price: "-1" is not a price, such as "0.03"'),
        ('price = "NaN"', 'price: "NaN" is not a price, such as "0.03"'),
        ('price = "1e5"', 'price: "1e5" is not a price, such as "0.03"'),
        ('languages = ["en"]', f'languages: "en": not one of {", ".join(LANGUAGES)}'),
        (
            'join = "sar"\nlanguages = ["tr"]',
            'languages: do nothing with join = "sar": which table was used is said in a user data header',
        ),
        ("spare_octets = 101", "spare_octets: 101 is too large; 100 or less"),
        ("max_parts = 256", "max_parts: 256 is too large; 255 or less"),
    ],
)
def test_a_carrier_that_cannot_be(tmp_path: Path, line: str, problem: str | None) -> None:
    key = line.split(" ")[0]
    text = "\n".join(one for one in CARRIER.split("\n") if not one.startswith(f"{key} ")) + line
    found = problems(tmp_path, text)
    assert len(found) == 1
    if problem is not None:
        assert found == [f"[[carrier]] 1 {problem}"]


@pytest.mark.parametrize("name", ["", "a b", "sms:a", "é", "a" * 64])
def test_a_name_is_part_of_a_destination(tmp_path: Path, name: str) -> None:
    [found] = problems(tmp_path, CARRIER.replace("alpha", name))
    assert found.startswith(f'[[carrier]] 1 name: "{name}" is not a name: ')
    [found] = problems(tmp_path, ACCOUNT.replace("shop", name) + 'password = "x"')
    assert found.startswith(f'[[account]] 1 system_id: "{name}" is not a system_id: ')


def test_one_of_each_name(tmp_path: Path) -> None:
    text = CARRIER + CARRIER.replace("alpha", "Alpha") + (ACCOUNT + 'password = "x"\n') * 2
    assert problems(tmp_path, text) == [
        '[[carrier]] 2 name: "Alpha" is there already',
        '[[account]] 2 system_id: "shop" is there already',
    ]


def test_one_password(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o600)
    assert problems(tmp_path, CARRIER + 'password = "x"\npassword_file = "secret"') == [
        "[[carrier]] 1 password_file: given, password is, too: one of the two"
    ]
    assert problems(tmp_path, ACCOUNT) == ["[[account]] 1 credential: missing, and so is password: one of the two"]
    assert problems(tmp_path, ACCOUNT + 'password = "x"\ncredential = "x"') == [
        "[[account]] 1 credential: given, password is, too: one of the two"
    ]
    (tmp_path / "secret").chmod(0o644)
    [found] = problems(tmp_path, CARRIER + 'password_file = "secret"')
    assert found.endswith("has mode 0644, others can read it; make it 0600")


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    text = CARRIER + 'password = "hush, a long secret"\n' + ACCOUNT + 'password = "hush, a long secret"\n'
    assert "hush" not in "".join(problems(tmp_path, text))


def test_warnings(tmp_path: Path) -> None:
    account = ACCOUNT + 'password = "x"\n'
    assert warnings(tmp_path, LISTENER) == ['a [[listener]] of kind "smpp" and no [[account]]: nobody can bind']
    assert warnings(tmp_path, account) == [
        '[[account]], and no [[listener]] of kind "smpp": nobody can bind',
        "[[account]], and no [[carrier]]: no message could go anywhere",
    ]
    assert warnings(tmp_path, LISTENER + account + LOCAL) == []
    assert warnings(tmp_path, LISTENER + account + CARRIER) == ["[[carrier]] 1: no password: most carriers refuse that"]
    assert warnings(tmp_path, LISTENER + account + CARRIER + 'password = "x"') == [
        '[[carrier]] 1 tls: "none": the password and every message travel for all to read'
    ]
    assert warnings(tmp_path, LISTENER + account + 'senders = ["Shop"]\n' + LOCAL + 'senders = ["Bank"]') == [
        "[[carrier]] 1: never reached, no [[account]] may use any of its senders"
    ]
    assert warnings(tmp_path, LISTENER + account + LOCAL + 'senders = ["Bank"]') == []


def test_what_does_nothing_for_smpp(tmp_path: Path) -> None:
    text = LISTENER + 'auth = false\nmessage_class = "transactional"\nxclient_from = ["192.0.2.1"]\n'
    assert warnings(tmp_path, text + ACCOUNT + 'password = "x"\n' + LOCAL) == [
        '[[listener]] 1: auth, message_class, xclient_from: does nothing on a listener of kind "smpp"'
    ]


def test_a_node_of_sms_alone_needs_nothing_of_mail(tmp_path: Path) -> None:
    text = '[node]\nname = "mx.example.org"\n' + LISTENER + ACCOUNT + 'password = "x"\n' + LOCAL
    assert warnings_of(load(tmp_path, text)) == []


def test_a_file_with_passwords_is_not_for_all(tmp_path: Path) -> None:
    settings = load(tmp_path, LOCAL + ACCOUNT + 'password = "x"\n')
    file = tmp_path / "postrider.toml"
    file.chmod(0o644)
    assert list(open_secrets(settings, file)) == [
        "has passwords ([[carrier]] and [[account]]) and mode 0644, everybody can read it; make it 0640"
    ]
    file.chmod(0o640)
    assert list(open_secrets(settings, file)) == []
    file.chmod(0o644)
    assert list(open_secrets(load(tmp_path, CARRIER), file)) == []


def test_an_account_that_is_called(tmp_path: Path) -> None:
    text = LISTENER + LOCAL + ACCOUNT + 'password = "x"\n'
    for line, problem in (
        ('outbind = "sms.example.org"', "outbind"), ('outbind = "sms.example.org:0"', "port 0 cannot be connected to"),
        ('outbind_tls = "opportunistic"', "nothing that SMPP has"),
        ('outbind_password = "seventeen octets."', "17 octets"),
    ):  # fmt: skip
        (found,) = problems(tmp_path, text + line)
        assert found.startswith("[[account]] 1 outbind") and problem in found
    called = text + 'outbind = "sms.example.org:2776"\n'
    assert load(tmp_path, called + "outbind_tls = true").account[0].outbind_tls == "verify"
    assert warnings(tmp_path, called) == [
        '[[account]] 1 outbind_tls: "none": passwords and every message travel for all to read'
    ]
    assert warnings(tmp_path, text + 'outbind_password = "x"') == [
        "[[account]] 1 outbind_password: does nothing without outbind"
    ]
    assert warnings(tmp_path, text + 'outbind = "127.0.0.1:2776"') == []


def test_a_carrier_that_calls_says_who_it_is_and_proves_it(tmp_path: Path) -> None:
    name, password = 'outbind_system_id = "smsc"\n', 'outbind_password = "x"\n'
    for lines, problem in (
        (password, "[[carrier]] 1 outbind_password: does nothing without outbind_system_id"),
        (name, "[[carrier]] 1 outbind_system_id: needs outbind_password: anybody could say it"),
    ):
        assert problems(tmp_path, LOCAL + lines) == [problem]
    row = load(tmp_path, LOCAL + name + password).carrier[0]
    assert (row.outbind_system_id, row.outbind_password) == ("smsc", "x")
