"""Settings of events that are pulled: what is a mistake, and what is probably not meant."""

from pathlib import Path

import pytest

from engine.base.errors import ConfigError
from engine.base.settings_checks import warnings_of
from engine.base.settings_file import load_settings

LISTENER = '[[listener]]\nkind = "events"\naddress = "127.0.0.1:0"\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "postrider.toml"
    path.write_text(text)
    return path


def warned(tmp_path: Path, text: str) -> list[str]:
    words = ("events", "no tls")
    return [each for each in warnings_of(load_settings(write(tmp_path, text))) if any(word in each for word in words)]


@pytest.mark.parametrize(
    ("readers", "problem"),
    [
        ('["a:b"]', '"a:b": a login with a colon cannot be given in HTTP Basic'),
        ('[""]', '"" is not a login'),
        ('["ops", " ops"]', '" ops" is not a login'),
        ('["a\\u0000"]', "is not a login"),
    ],
)
def test_readers_that_can_be_no_logins(tmp_path: Path, readers: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, f"{LISTENER}[events]\nreaders = {readers}\n"))
    [said] = caught.value.problems
    assert "[events] readers" in said
    assert problem in said


def test_what_is_probably_not_meant(tmp_path: Path) -> None:
    assert warned(tmp_path, f'{LISTENER}[events]\nreaders = ["ops"]\n') == []
    assert warned(tmp_path, f'{LISTENER}networks = ["127.0.0.0/8", "::1"]\n') == []
    assert warned(tmp_path, f'{LISTENER}networks = ["192.0.2.0/24"]\n') == [
        "[[listener]] 1: no tls: only clients on this machine can log in"
    ]
    assert warned(tmp_path, '[events]\nreaders = ["ops"]\n') == [
        '[events] readers, and no [[listener]] of kind "events": there is nothing to read'
    ]
    idle = 'auth = false\nproxy_from = ["10.0.0.1"]\nmessage_class = "transactional"\n'
    assert warned(tmp_path, LISTENER + idle) == [
        '[[listener]] 1: auth, message_class, proxy_from: does nothing on a listener of kind "events"'
    ]
