"""Every kind of fault of an exchange, and every minute where it should be: the short form of `benchmarks.soak`."""

from __future__ import annotations

from pathlib import Path

from app.settings import Settings
from benchmarks.soak_run import Soak, SoakPlan, all_faults, soak_settings


async def test_every_minute_that_the_exchange_has_is_stored_once_in_spite_of_all_its_faults(
    settings: Settings, tmp_path: Path
):
    plan = SoakPlan(symbols=20, updates_per_s=2.0, seconds=24.0, speed=20.0, faults=all_faults(24.0))
    account = await Soak(soak_settings(settings, plan), plan, tmp_path).run()
    assert account.faults_found() == []
    # a day of history, and minutes that went by under faults
    assert len(account.expected) > 20 * 1_440
    assert all(count >= 1 for count in account.faults.values())
    assert account.feed["data_collector_websocket_reconnects_total"] >= 3
    assert account.feed["screener_feed_given_up_minutes_total"] == 0
