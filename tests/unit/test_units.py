"""Durations, sizes, rates, addresses and schedules, as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.hostport import format_host_port, is_host_name, is_ip_address, parse_host_port
from engine.base.schedule import Schedule, parse_schedule
from engine.base.units import counted, format_duration, format_rate, parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h30m", 5400), ("3d", 259200), ("250ms", 0.25), ("0s", 0), ("1.5h", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "5M", "1h 30m", "5m\n", "٥m", "1e3s", "infs"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("512", 512), ("64KiB", 65536), ("25MiB", 25 << 20), ("2 GiB", 2 << 30), ("0", 0)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "25MB", "25M", "-1", "1.5MiB", "MiB", "25  MiB", "٢MiB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(("text", "rate"), [("20/s", 20), ("600/m", 10), ("3600/h", 1), ("0.5/s", 0.5), ("86400/d", 1)])
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "fast", "20", "0/s", "0.0/s", "-1/s", "20/w", "20 / s", "/s", "1e9/s"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate"):
        parse_rate(text)


@given(st.integers(0, 10**8))
def test_a_formatted_duration_reads_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.25, "250ms"), (5400, "1h30m"), (86400, "1d"), (61, "1m1s")]
)
def test_durations_are_written_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("127.0.0.1:25", ("127.0.0.1", 25)),
        ("[::1]:2525", ("::1", 2525)),
        ("mx.example.org:0", ("mx.example.org", 0)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_host_and_port_read_and_written(text: str, pair: tuple[str, int]) -> None:
    assert parse_host_port(text) == pair
    assert format_host_port(*pair) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ":25",
            "25",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "127.0.0.1:+1",
            "300.1.1.1:25",
        ),
        *("::1:25", "[::1]", "[::1:25", "[127.0.0.1]:25", "[::1%lo]:25", "-a:25", "a.:25", "a b:25", "a..b:25"),
        *("a:٢٥", "bücher.example:25", "x\n:25", "x:25\n", "a" * 64 + ":25"),
    ],
)
def test_what_is_no_host_and_port(text: str) -> None:
    with pytest.raises(ValueError, match=r":|address"):
        parse_host_port(text)


@given(st.text(max_size=80))
def test_any_text_is_a_host_and_port_or_a_value_error(text: str) -> None:
    try:
        host, port = parse_host_port(text)
    except ValueError:
        return
    assert is_ip_address(host) or is_host_name(host)
    assert 0 <= port <= 65535


@pytest.mark.parametrize("text", ["20/s", "1/s", "1.5/s", "30/m", "1/m", "50/h", "1/h", "7/d", "1000/s"])
def test_rates_are_written_as_they_are_read(text: str) -> None:
    assert format_rate(parse_rate(text)) == text


def test_schedules() -> None:
    assert parse_schedule("1m, 5m,4h*") == Schedule((60, 300, 14400), True)
    assert parse_schedule("30s") == Schedule((30,), False)
    assert parse_schedule("1h *") == Schedule((3600,), True)


def test_a_schedule_repeats_its_last_step_or_ends() -> None:
    assert [parse_schedule("1m, 5m*").after(n) for n in (1, 2, 3, 100)] == [60, 300, 300, 300]
    assert [parse_schedule("1m, 5m").after(n) for n in (1, 2, 3)] == [60, 300, None]


@pytest.mark.parametrize("text", ["", "*", "1m,", "1m,,2m", "5m*, 1h", "1m, soon", "0s", "1m 5m", "1m**"])
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError, match=r"schedule|duration|step"):
        parse_schedule(text)


def test_things_are_counted_in_english() -> None:
    assert [counted(n, "delivery") for n in (0, 1, 2)] == ["0 deliveries", "1 delivery", "2 deliveries"]
    assert [counted(n, "byte") for n in (1, 2)] == ["1 byte", "2 bytes"]
