"""The parts of a day survive a restart, up to the last time that they were written."""

from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.storage.tables.sms_quota import SmsQuota

NOON = 20_000 * 86400 + 43200.0


def test_a_day_is_counted_and_the_next_begins_anew(tmp_path: Path) -> None:
    quota = SmsQuota(tmp_path / "q.db")
    quota.add("app", 3, NOON)
    quota.add("app", 4, NOON + 60)
    assert (quota.used("app", NOON), quota.used("other", NOON), quota.used("app", NOON + 86400)) == (7, 0, 0)
    quota.add("app", -2, NOON)
    assert quota.used("app", NOON) == 5
    quota.close()
    again = SmsQuota(tmp_path / "q.db")
    assert again.used("app", NOON) == 5
    again.close()


def test_a_crash_costs_what_was_not_saved(tmp_path: Path) -> None:
    quota = SmsQuota(tmp_path / "q.db")
    quota.add("app", 3, NOON)
    quota.save()
    quota.add("app", 4, NOON)
    after = SmsQuota(tmp_path / "q.db")
    assert after.used("app", NOON) == 3


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "q.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        SmsQuota(tmp_path / "q.db")
