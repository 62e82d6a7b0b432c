"""The state of everything the screener depends on, as this sidecar sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Literal, TypedDict

import structlog

from app.clock import Clock
from app.database.timescale import TimescaleMode
from app.process.health.backlog import Waiting
from app.process.health.dependencies import DependencyState
from app.process.health.loop_probe import LoopProbe
from app.process.health.signs import RoleState, Sign, role_states
from app.process.tasks import together
from app.sidecar.state.backlogs import Work
from app.sidecar.state.feeds import MetricsFeed
from app.sidecar.state.follower import TopicFollower
from app.sidecar.state.limits import SidecarLimits
from app.sidecar.state.rules import RulesReport
from app.sidecar.state.server_checks import CHECK_FAULTS, WRITES, Check
from app.telemetry import RuntimeMetrics, SidecarMetrics
from app.times import rfc3339

FEED: Final = "feed"
"""The feed itself reports when NATS last accepted something from it."""
SENDERS: Final = ("bridge", "collector", "calculator")
"""Stages whose times are in the frames of metrics."""
ROLES: Final = {
    "feed": False,
    "bridge": True,
    "collector": True,
    "calculator": True,
    "alerts": True,
    "sinks": True,
    "market": False,
    "webhooks": False,
}
"""Role -> whether it is required; an installation may leave out the others, which count once they have been seen."""
NEEDED: Final = frozenset({"kafka", "nats", "postgres"})
"""Without these the screener does not work. Without Redis it continues from memory."""

_RECHECK_S = 0.5
"""Interval of the checks while something is down."""

log = structlog.get_logger("sidecar.health")


def _told(time_ms: int | None) -> str | None:
    return None if time_ms is None else rfc3339(time_ms)


class ServerState(DependencyState, total=False):
    """timescaledb: how PostgreSQL stores minutes; absent for other servers."""

    timescaledb: TimescaleMode


class WorkReport(TypedDict):
    """handled: when an item was last handled (RFC 3339). waiting: items not handled yet, the oldest for waiting_s."""

    handled: str | None
    waiting: int
    waiting_s: float | None


class StageReport(TypedDict):
    """A role: its state, when it last sent something, and its backlogs by name."""

    state: str
    last_sent: str | None
    age_s: float | None
    work: dict[str, WorkReport]


class HealthReport(TypedDict):
    """The body of /api/health. dependencies: by server. stages: by role."""

    status: Literal["ok", "degraded", "down"]
    time: str
    dependencies: dict[str, ServerState]
    stages: dict[str, StageReport]
    rules: RulesReport


class Health:
    """Checks the dependencies periodically; answers from the last results."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        followers: Sequence[TopicFollower],
        metrics_feed: MetricsFeed,
        limits: SidecarLimits,
        clock: Clock,
        metrics: RuntimeMetrics,
        gauges: SidecarMetrics,
    ) -> None:
        self._metrics = metrics
        self._checks = checks
        self._followers = followers
        self._metrics_feed = metrics_feed
        self._limits = limits
        self._clock = clock
        # writes are not reported before the first try
        self._up = {name: name == WRITES for name in checks}
        self._gauges = gauges
        self._signs: Sequence[Sign] | None = None
        """The signs last read from Redis; None while it is down."""
        self.read_signs: Callable[[], Awaitable[Sequence[Sign]]] | None = None
        """Reads the signs of life of all processes."""
        self.backlog_of: Callable[[str], Work] = lambda _: {}
        """The backlog of a role, as its upstream servers report it."""
        self.stopping = False
        self.probe: LoopProbe | None = None
        """The probe of this process's event loop, once there is one."""
        self.rules: Callable[[], RulesReport] = lambda: {"switched_off": 0, "which": []}
        """Which rules are switched off, as `RuleStates.report` tells."""
        self.timescale: Callable[[], TimescaleMode] = lambda: "unknown"
        """How the database stores minutes, as last seen."""

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            checks = (self._check(name, check) for name, check in self._checks.items())
            await together(self._look_for_signs(), *checks)
            self._show_work()
            fine = all(self._up.values())
            await asyncio.sleep(self._limits.dependency_check_s if fine else _RECHECK_S)

    @property
    def live(self) -> bool:
        """Whether the event loop turns."""
        return self.probe is None or self.probe.turns

    @property
    def ready(self) -> bool:
        """Whether clients can be served: both topics are being followed and the database answers."""
        return (
            not self.stopping
            and self._up.get("postgres", False)
            and all(follower.connected and follower.caught_up for follower in self._followers)
        )

    def report(self) -> tuple[HealthReport, bool]:
        """Return (the body of /api/health, whether all required servers are up)."""
        up = {"kafka": all(follower.connected for follower in self._followers), **self._up}
        # clients can be served from a database that takes no writes; the screener as a whole needs them
        takes_writes = up.pop(WRITES, True)
        up["postgres"] = up.get("postgres", False) and takes_writes
        stages = self._stages()
        works = all(up[name] for name in NEEDED)
        rules = self.rules()
        fine = (
            works
            and all(up.values())
            and all(stage["state"] in ("fresh", "absent") for stage in stages.values())
            and not rules["switched_off"]
        )
        dependencies: dict[str, ServerState] = {
            name: {"state": "up" if is_up else "down", "needed": name in NEEDED}
            for name, is_up in sorted(up.items())
        }
        dependencies["postgres"]["timescaledb"] = self.timescale()
        return {
            "status": "ok" if fine else "degraded" if works else "down",
            "time": rfc3339(self._clock.now_ms()),
            "dependencies": dependencies,
            "stages": stages,
            "rules": rules,
        }, works

    def _stages(self) -> dict[str, StageReport]:
        """State of each role: fresh only if its process gives signs of life, handles its backlog, and sends data as
        new as can be expected now."""
        return {role: self._stage(role, process, work) for role, (process, work) in self._roles().items()}

    def _roles(self) -> dict[str, tuple[RoleState, Work]]:
        states = role_states(self._signs or (), self._clock.now_ms())
        found: dict[str, tuple[RoleState, Work]] = {}
        for role, needed in ROLES.items():
            process = states.get(role, RoleState("silent" if needed else "absent"))
            found[role] = (
                process,
                {} if process.state == "absent" else {**self.backlog_of(role), **process.work},
            )
        return found

    def _stage(self, role: str, process: RoleState, work: Work) -> StageReport:
        sent_ts_ms = self._sent_ts_ms(role, process, work)
        state = process.state if self._signs is not None else "unknown"
        if state == "fresh":
            state = self._state_of_work(role, sent_ts_ms, process, Waiting.worst_of(work.values()))
        return {
            "state": state,
            "last_sent": _told(sent_ts_ms),
            "age_s": self._age_s(sent_ts_ms),
            "work": {
                name: {
                    "handled": _told(one.handled_ms),
                    "waiting": one.count,
                    "waiting_s": self._age_s(one.since_ms),
                }
                for name, one in work.items()
            },
        }

    def _sent_ts_ms(self, role: str, process: RoleState, work: Work) -> int | None:
        if role in SENDERS:
            return self._metrics_feed.stage_ts_ms.get(role)
        return Waiting.worst_of(work.values()).handled_ms if role == FEED else process.at_ms

    def _state_of_work(self, role: str, sent_ts_ms: int | None, process: RoleState, waiting: Waiting) -> str:
        """Return the state of a role that lives and is ready."""
        still_s = self._age_s(waiting.still_since_ms) or 0.0
        if still_s > self._limits.still_after_s:
            return "stuck"
        if role in SENDERS and sent_ts_ms is None:
            return "silent"
        if role in SENDERS or role == FEED:
            # a feed that has not sent yet is measured from the start of its process
            age_s = self._age_s(process.began_ms if sent_ts_ms is None else sent_ts_ms) or 0.0
            if age_s > self._metrics_feed.expected_within_s(self._limits):
                return "stale"
        # messages to a failing target stay due for long
        waiting_s = 0.0 if role == "webhooks" else self._age_s(waiting.since_ms) or 0.0
        return "behind" if waiting_s > self._limits.behind_after_s else "fresh"

    def _age_s(self, time_ms: int | None) -> float | None:
        return None if time_ms is None else max(0, self._clock.now_ms() - time_ms) / 1000

    def _show_work(self) -> None:
        """Show the backlogs; zeros for unknown ones: other gauges tell whether roles live and servers answer."""
        for role, (_, work) in self._roles().items():
            worst = Waiting.worst_of(work.values())
            self._gauges.waiting_s.labels(role).set(self._age_s(worst.since_ms) or 0.0)
            self._gauges.still_s.labels(role).set(self._age_s(worst.still_since_ms) or 0.0)

    async def _look_for_signs(self) -> None:
        if self.read_signs is None:
            return
        try:
            async with asyncio.timeout(self._limits.dependency_timeout_s):
                self._signs = await self.read_signs()
        except CHECK_FAULTS:
            # Redis's own check reports that it is down
            self._signs = None

    async def _check(self, name: str, check: Check) -> None:
        try:
            async with asyncio.timeout(self._limits.dependency_timeout_s):
                await check()
        except CHECK_FAULTS as error:
            if self._up[name]:
                log.warning("dependency_down", dependency=name, fault=repr(error))
            self._up[name] = False
        else:
            if not self._up[name]:
                log.info("dependency_up", dependency=name)
            self._up[name] = True
        self._metrics.dependency_up.labels(name).set(float(self._up[name]))
