"""Candles as commands of the NATS protocol, each of which publishes one message.

A message carries a `Nats-Msg-Id` made of its content, so that the stream recognises a message that is sent again. The
commands are the text that `Client.publish` would write, at a third of its cost.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from app.candles.batch import CandleBatch
from app.candles.symbols import is_symbol
from app.settings.access import Namespace
from app.wire.nats.render import render

_FORMING_HEADER: Final = "Nats-TTL: 15m\r\n"
"""Forming candles are of use until the next update; kept as long as closed ones they would fill disks."""
_HEADERS_MAX_BYTES: Final = 1_024


class PublishCommands:
    """Makes the commands of one publisher; the stream answers message N on the subject `inbox`.N."""

    def __init__(self, namespace: Namespace, inbox: str) -> None:
        self._namespace = namespace
        self._inbox = inbox

    def of_batch(
        self, batch: CandleBatch, closed_per_message: int, forming_per_message: int, first_number: int
    ) -> list[bytes]:
        """Return the commands of a batch, numbered from `first_number` on.

        A message of one candle is on the symbol's subject; one of several is a JSON array on `candles.batch.1m`, of
        forming candles on `candles.live.batch.1m`.
        """
        if closed_per_message == forming_per_message == 1:
            return self._singles(batch, first_number)
        closed, forming = batch.take(batch.closed), batch.take(~batch.closed)
        commands = self._arrays(closed, closed_per_message, "candles.batch.1m", "", first_number)
        number = first_number + len(commands)
        return commands + self._arrays(
            forming, forming_per_message, "candles.live.batch.1m", _FORMING_HEADER, number
        )

    def of_unreadable(self, payload: bytes, max_payload_bytes: int, number: int) -> bytes:
        """Return the command of an invalid candle, cut to the largest message of the server, which closes the
        connection for good on a larger one."""
        payload = payload[: max_payload_bytes - _HEADERS_MAX_BYTES]
        name = f"invalid-{crc32(payload):08x}"
        subject = self._namespace.name("candles.live.1m.") + name
        return _hpub(subject, f"{self._inbox}.{number}", f"{name}-{len(payload)}", payload, _FORMING_HEADER)

    def _arrays(
        self, part: CandleBatch, size: int, plain_subject: str, headers: str, first_number: int
    ) -> list[bytes]:
        """Return one message per `size` rows, which are all closed or all forming."""
        if size == 1:
            return self._singles(part, first_number)
        subject = self._namespace.name(plain_subject)
        payloads = render(part)
        commands: list[bytes] = []
        for start in range(0, len(payloads), size):
            payload = b"[%b]" % b",".join(payloads[start : start + size])
            symbol = _in_protocol(part.symbol_of(start))
            first = f"{symbol}-{part.open_time_ms[start]}-{part.event_ts_ms[start]}"
            message_id = f"{first}-{len(payload)}-{crc32(payload):08x}"
            reply = f"{self._inbox}.{first_number + len(commands)}"
            commands.append(_hpub(subject, reply, message_id, payload, headers))
        return commands

    def _singles(self, batch: CandleBatch, first_number: int) -> list[bytes]:
        """Return one message per row."""
        names = [_in_protocol(symbol) for symbol in batch.symbols]
        prefix = self._namespace.name("candles.live.1m."), self._namespace.name("candles.1m.")
        headers = _FORMING_HEADER, ""
        reply = f"{self._inbox}."
        columns = (batch.symbol_index, batch.closed, batch.open_time_ms, batch.event_ts_ms)
        rows = zip(*(column.tolist() for column in columns), render(batch), strict=True)
        commands = []
        for number, (symbol, closed, open_time_ms, event_ts_ms, payload) in enumerate(rows, first_number):
            name = names[symbol]
            # the checksum tells a correction from the candle that it corrects
            message_id = f"{name}-{open_time_ms}-{event_ts_ms}-{crc32(payload):08x}"
            subject = prefix[closed] + name
            commands.append(_hpub(subject, f"{reply}{number}", message_id, payload, headers[closed]))
        return commands


def arguments_of(command: bytes) -> tuple[str, bytes, str, dict[str, str]]:
    """Return the arguments with which `Client.publish` would write the command: subject, payload, reply, headers."""
    head, _, payload = command.partition(b"\r\n\r\n")
    line, _, *lines = head.decode().split("\r\n")
    _, subject, reply, *_ = line.split()
    headers = dict(header.split(": ", 1) for header in lines)
    return subject, payload.removesuffix(b"\r\n"), reply, headers


def _in_protocol(symbol: str) -> str:
    """Return a symbol's name in subjects and message ids. An invalid symbol goes to a subject that no symbol has,
    from where the bridge sends its candle to the dead letters."""
    if is_symbol(symbol):
        return symbol
    return f"invalid-{crc32(symbol.encode()):08x}"


def _hpub(subject: str, reply: str, message_id: str, payload: bytes, headers: str) -> bytes:
    """Return the command that publishes a message. headers: further ones, each with its line end."""
    header = f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\n{headers}\r\n".encode()
    line = f"HPUB {subject} {reply} {len(header)} {len(header) + len(payload)}\r\n".encode()
    return b"%b%b%b\r\n" % (line, header, payload)
