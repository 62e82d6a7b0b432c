"""The conversation with one client of /ws: its user, its subscriptions, and the answers to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from traceback import format_exception
from typing import Any, Final

import structlog
from aiohttp import WSCloseCode

from app.clock import Clock
from app.errors import TokenRefused
from app.process.tasks import ended
from app.sidecar.access.auth import Caller, TokenVerifier
from app.sidecar.live.alert_groups import AlertGroups, Wanted
from app.sidecar.live.alert_log import LoggedAlert
from app.sidecar.live.alert_resume import AlertResume, ResumeError
from app.sidecar.live.client_messages import (
    Auth,
    ClientMessage,
    MessageError,
    Ping,
    SubscribeAlerts,
    SubscribeValues,
    Unsubscribe,
    parse_message,
)
from app.sidecar.live.client_user import ClientUser, UserSelections
from app.sidecar.live.clients import TOO_MANY_MESSAGES, Client, Clients
from app.sidecar.live.field_sets import FieldSets, TooManyFieldSets
from app.sidecar.live.frames import blocks
from app.sidecar.live.latest_channel import LatestChannel
from app.sidecar.live.receivers import ending_client
from app.sidecar.live.server_messages import alert_frame, message
from app.sidecar.state.database import HistoryUnavailable
from app.sidecar.state.limits import SidecarLimits
from app.times import rfc3339

_SUBSCRIPTION_COST: Final = 9.0
"""Messages that a subscription costs in addition to itself: snapshots and resumptions are work."""

NOT_ACCEPTED: Final = "invalid token"
AUTH_FIRST: Final = "the first message must be auth, with a token"
NOTHING_SUBSCRIBED: Final = "no subscription for too long"
TEXT_ONLY: Final = "messages must be text"
NO_SELECTION: Final = "the settings cannot be reached: retry"
FAILED: Final = "the sidecar failed"

log = structlog.get_logger("sidecar.websocket")


@dataclass(frozen=True, slots=True)
class Channels:
    """The objects that all sessions share. verifier: None without users. closed: a token is required."""

    clients: Clients
    groups: AlertGroups
    resume: AlertResume
    values: Mapping[str, LatestChannel]
    field_sets: FieldSets
    selections: UserSelections
    verifier: TokenVerifier | None
    closed: bool
    clock: Clock


class Session:
    """The conversation with one client. Messages are answered in order; only the alerts of a resumption take their own
    time."""

    def __init__(self, client: Client, channels: Channels, limits: SidecarLimits) -> None:
        self._receiver = client.receiver
        self._address = client.address
        self._budget = client.budget
        self._channels = channels
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._user = ClientUser(client.receiver, channels.clients, channels.clock, limits.expiry_check_s)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """Channel -> its task, which ends once only new alerts or values are left to send."""
        self._releases: dict[str, Callable[[], None]] = {}
        """Channel -> the function that releases its choice of fields."""
        self._idle: asyncio.TimerHandle | None = None

    def begin(self, caller: Caller | None) -> None:
        """`caller`: the user that the request's token named, if any."""
        self._watch_idleness()
        if caller is not None:
            self._user.become(caller)

    async def hear(self, said: str | bytes) -> None:
        if isinstance(said, bytes):
            self._receiver.close(WSCloseCode.UNSUPPORTED_DATA, TEXT_ONLY)
        else:
            message: ClientMessage | None = None
            try:
                message = parse_message(said)
                await self._answer(message)
            except MessageError as error:
                if message is not None:
                    error.identifier = message.identifier
                self._refuse(error)
            except Exception as error:
                # ends this client alone; its message may hold a token, so it is not logged
                log.error("conversation_failed", trace="".join(format_exception(error)))
                self._receiver.close(WSCloseCode.INTERNAL_ERROR, FAILED)

    async def end(self) -> None:
        """Remove this client from all channels."""
        if self._idle is not None:
            self._idle.cancel()
        for channel in tuple(self._tasks):
            await self._leave(channel)
        self._user.end()

    async def _answer(self, said: ClientMessage) -> None:
        if isinstance(said, Auth):
            await self._authenticate(said)
            return
        if self._channels.closed and self._user.caller is None:
            self._say(
                "error", data={"error": "token_required", "message": AUTH_FIRST}, identifier=said.identifier
            )
            self._receiver.close(WSCloseCode.POLICY_VIOLATION, AUTH_FIRST)
            return
        if isinstance(said, Ping):
            self._say("pong", identifier=said.identifier)
        elif isinstance(said, Unsubscribe):
            await self._leave(said.channel)
            self._say("unsubscribed", channel=said.channel, identifier=said.identifier)
        elif not self._budget.allows(self._loop.time(), _SUBSCRIPTION_COST):
            self._receiver.close(WSCloseCode.POLICY_VIOLATION, TOO_MANY_MESSAGES)
        elif isinstance(said, SubscribeAlerts):
            if said.mine and self._user.caller is None:
                raise MessageError("user_required", "mine needs a user: send auth first")
            await self._leave("alerts")
            self._serve("alerts", partial(self._alerts, said))
        else:
            await self._leave(said.channel)
            self._take_fields(said)
            self._serve(said.channel, partial(self._values, said))
        self._watch_idleness()

    def _serve(self, channel: str, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks[channel] = asyncio.create_task(ending_client(self._receiver, work))

    async def _leave(self, channel: str) -> None:
        task = self._tasks.pop(channel, None)
        if task is not None:
            await ended(task)
        release = self._releases.pop(channel, None)
        if release is not None:
            release()
        if channel == "alerts":
            self._channels.groups.discard(self._receiver)
        else:
            self._channels.values[channel].discard(self._receiver)

    def _take_fields(self, said: SubscribeValues) -> None:
        """Count the client's choice of fields. Raises MessageError when that would be one choice too many."""
        caller = self._user.caller
        owners = [f"address {self._address}", *([f"user {caller.user_id}"] if caller else [])]
        try:
            release = self._channels.field_sets.take((said.channel, said.wanted.fields), owners)
        except TooManyFieldSets as full:
            who = "all clients together have" if full.owner is None else f"this {full.owner.split()[0]} has"
            error = MessageError(
                "too_many_field_sets",
                f"{who} {full.most} different choices of timeframes and fields, the maximum: use one of them",
            )
            error.channel = said.channel
            raise error from None
        self._releases[said.channel] = release

    async def _authenticate(self, said: Auth) -> None:
        verifier = self._channels.verifier
        if verifier is None:
            raise MessageError("auth_not_configured", "this screener has no key for tokens")
        try:
            caller = await verifier.authenticate(said.token)
        except TokenRefused as refusal:
            self._say(
                "error", data={"error": refusal.code, "message": str(refusal)}, identifier=said.identifier
            )
            self._receiver.close(WSCloseCode.POLICY_VIOLATION, NOT_ACCEPTED)
            return
        if self._user.caller is not None and self._user.caller.user_id != caller.user_id:
            raise MessageError("other_user", "a connection belongs to one user: open another connection")
        if self._user.become(caller):
            data = {"user": caller.user_id, "expires_at": rfc3339(round(caller.expires_at_s * 1000))}
            self._say("authenticated", data=data, identifier=said.identifier)

    def _watch_idleness(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not self._tasks:
            self._idle = self._loop.call_later(
                self._limits.idle_s, self._receiver.close, WSCloseCode.POLICY_VIOLATION, NOTHING_SUBSCRIBED
            )

    async def _alerts(self, said: SubscribeAlerts) -> None:
        try:
            await self._follow_alerts(said)
        except ResumeError as refusal:
            if refusal.code == WSCloseCode.SERVICE_RESTART:
                raise
            data = {"error": "not_ready", "message": refusal.reason}
            self._say("error", channel="alerts", data=data, identifier=said.identifier)
            self._tasks.pop("alerts", None)
            self._watch_idleness()

    async def _wanted(self, said: SubscribeAlerts) -> Wanted:
        """Return the wanted alerts; with `mine`, only alerts of the user's selection. Raises ResumeError if that cannot
        be read."""
        if not said.mine or self._user.caller is None:
            return said.wanted
        try:
            return replace(
                said.wanted, selection=await self._channels.selections.of(self._user.caller.user_id)
            )
        except HistoryUnavailable:
            raise ResumeError(WSCloseCode.TRY_AGAIN_LATER, NO_SELECTION) from None

    async def _follow_alerts(self, said: SubscribeAlerts) -> None:
        resume, groups = self._channels.resume, self._channels.groups
        wanted = await self._wanted(said)

        def subscribed(seq: int) -> None:
            lists = {"symbols": wanted.symbols, "rules": wanted.rules, "severities": wanted.severities}
            flags = {"mine": said.mine, "backfilled": wanted.backfilled}
            data: dict[str, object] = {
                **_sorted(lists),
                **{name: True for name, given in flags.items() if given},
            }
            self._say("subscribed", channel="alerts", seq=seq, data=data, identifier=said.identifier)

        def join() -> None:
            groups.add(self._receiver, alert_frame, wanted)

        async def send(alerts: Sequence[LoggedAlert]) -> None:
            frames = (alert_frame(alert) for alert in alerts if wanted.includes(alert))
            for block in blocks(frames, self._limits.block_bytes):
                await self._receiver.ready()
                self._receiver.write(block)

        if said.since is None:
            await resume.reach_now()
            subscribed(resume.newest_seq)
            join()
            return
        gap = await resume.find_gap(said.since, said.since_id)
        since = said.since if gap is None else gap.resumes_after
        subscribed(since)
        if gap is not None:
            self._say("gap", channel="alerts", seq=since, data={"reason": gap.reason, "since": gap.since})
        await resume.catch_up(since, send, join)

    async def _values(self, said: SubscribeValues) -> None:
        channel = self._channels.values[said.channel]
        timeframes, fields = said.wanted.fields
        lists = {"symbols": said.wanted.symbols, "timeframes": timeframes or None, "fields": fields or None}
        data = {**_sorted(lists), "interval_ms": said.wanted.interval_ms}
        self._say("subscribed", channel=said.channel, seq=channel.seq, data=data, identifier=said.identifier)
        channel.add(self._receiver, said.wanted)
        await channel.send_snapshot(self._receiver, said.wanted)

    def _refuse(self, error: MessageError) -> None:
        data = {"error": error.code, "message": error.text}
        self._say("error", channel=error.channel, data=data, identifier=error.identifier)

    def _say(self, kind: str, **fields: Any) -> None:
        self._receiver.say(message(kind, **fields))


def _sorted(lists: Mapping[str, frozenset[str] | None]) -> dict[str, list[str]]:
    """Return only the lists that filter."""
    return {name: sorted(items) for name, items in lists.items() if items is not None}
