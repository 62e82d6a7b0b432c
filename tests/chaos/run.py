"""The long form of a trial: `python -m tests.chaos.run --minutes 20 --seed N` prints the faults and what is wrong."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

import click

from tests.chaos.trial import Plan, trial


@click.command()
@click.option("--minutes", type=float, default=20.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--symbols", type=int, default=8, show_default=True)
@click.option("--stopped-s", type=float, default=30.0, show_default=True, help="How long a SIGSTOP lasts.")
@click.option("--keep", type=click.Path(path_type=Path), help="Where logs and data stay.")
def main(minutes: float, seed: int, symbols: int, stopped_s: float, keep: Path | None) -> None:
    directory = keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    plan = Plan(minutes * 60, seed, symbols, stopped_s)
    outcome = asyncio.run(trial(directory, plan, click.echo))
    kinds: Counter[str] = Counter()
    for name, count in sorted(outcome.faults.items()):
        click.echo(f"{count:4} {name}")
        kinds[name.split()[0]] += count
    click.echo(f"{kinds.total()} faults: {dict(kinds)}, {outcome.severed} connections severed")
    click.echo(f"alerts: {len(outcome.alerts_expected)} expected, {outcome.alerts.total()} found")
    click.echo(f"candles: {len(outcome.candles_expected)} expected, {len(outcome.candles)} found")
    for name, what in outcome.differences().items():
        click.echo(f"{name}: {len(what) if isinstance(what, list) else ''} {what}")
    raise SystemExit(1 if outcome.differences() else 0)


if __name__ == "__main__":
    main()
