"""Dates of every length; those that cannot be."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from engine.protocol.receipt_dates import parse_date


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2503141015", "2025-03-14T10:15:00"),
        ("250314101553", "2025-03-14T10:15:53"),
        ("202503141015", "2025-03-14T10:15:00"),
        ("201203141015", "2020-12-03T14:10:15"),
        ("20250314101553", "2025-03-14T10:15:53"),
        ("25031410155399", "2025-03-14T10:15:53"),
        ("20031410155399", "2020-03-14T10:15:53"),
        ("2025031410155399", "2025-03-14T10:15:53"),
        ("20250314101553999", "2025-03-14T10:15:53"),
        ("2402291015", "2024-02-29T10:15:00"),
        ("250314101553000+", "2025-03-14T10:15:53"),
        ("250314101553912+", "2025-03-14T07:15:53.9"),
        ("250314101553022-", "2025-03-14T15:45:53"),
        ("250314101553+", "2025-03-14T10:15:53"),
        ("2503141015 imsi:25001", "2025-03-14T10:15:00"),
        ("2025-03-14 10:15:53", "2025-03-14T10:15:53"),
        ("2025-03-14T10:15:53Z", "2025-03-14T10:15:53"),
        ("2025-03-14T13:15:53+03:00", "2025-03-14T10:15:53"),
    ],
)
def test_a_date(text: str, iso: str) -> None:
    assert parse_date(text) == pytest.approx(datetime.fromisoformat(iso).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "0000000000", "000000000000", "00000000000000", "9999999999", "2513141015", "2502291015", "2503142415",
        "250314101560", "250314", "250314101", "2" * 18, "000007000000000R", "250314101553099+", "250314101553096-",
        "٢٥٠٣١٤١٠١٥", "14/03/2025 10:15", "2025-03-14T", "0001-01-01T00:00+23:00", "tomorrow",
    ],
)  # fmt: skip
def test_no_date(text: str) -> None:
    assert parse_date(text) is None


def test_the_zone_is_the_carriers_unless_the_date_names_one() -> None:
    at = datetime(2025, 7, 14, 10, 15, tzinfo=UTC).timestamp()
    assert parse_date("2507141215", ZoneInfo("Europe/Berlin")) == at
    assert parse_date("2025-07-14 12:15", timezone(timedelta(hours=2))) == at
    assert parse_date("250714131500012+", ZoneInfo("Europe/Berlin")) == at
