"""One frame through all stages as an OpenTelemetry trace. Off, and then without cost, unless SCREENER_TRACE_URL is set.

The frame's id is the trace's id, so no other id travels with it. The bridge's span is the root; its span id is made
of the frame's id too, so that every other stage knows its parent. Each process decides by the same id whether a trace
is kept (`trace_ratio`), so a trace is kept by all stages or by none.

Needs the extra `tracing` (`pip install screener[tracing]`).
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from app.errors import SettingsError

ROOT_STAGE: Final = "bridge"
_NS_PER_MS: Final = 1_000_000
_SPAN_ID_MASK: Final = (1 << 64) - 1


class SpanRecorder(Protocol):
    def record(
        self, stage: str, frame_id: str, *, end_ms: int, duration_s: float, **facts: str | int
    ) -> None:
        """Record a span of `stage` in the trace of the frame (32 hex digits); facts become attributes `screener.*`."""
        ...

    def close(self) -> None:
        """Export pending spans, for a few seconds at most. Blocks."""
        ...


_recorder: SpanRecorder | None = None


def recorder() -> SpanRecorder | None:
    """Return the recorder of spans; None while tracing is off."""
    return _recorder


def configure_tracing(url: str | None, ratio: float, role: str) -> None:
    """Turn tracing on if there is a URL; `ratio` is the share of the frames that are traced.

    Raises SettingsError if the extra is not installed.
    """
    global _recorder
    if url is None:
        return
    try:
        _recorder = _otlp(url, ratio, role)
    except ImportError as error:
        raise SettingsError(
            f"SCREENER_TRACE_URL is set, but OpenTelemetry is not installed ({error}): run "
            "`pip install 'screener[tracing]'`, or unset it"
        ) from error


def end_tracing() -> None:
    """Export the last spans; harmless while tracing is off."""
    global _recorder
    if _recorder is not None:
        _recorder.close()
        _recorder = None


def _otlp(url: str, ratio: float, role: str) -> SpanRecorder:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
    from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

    class FrameIds(RandomIdGenerator):
        """Random ids, except for the root span of a frame."""

        wanted: int | None = None

        def generate_trace_id(self) -> int:
            return super().generate_trace_id() if self.wanted is None else self.wanted

        def generate_span_id(self) -> int:
            return super().generate_span_id() if self.wanted is None else self.wanted & _SPAN_ID_MASK

    ids = FrameIds()
    provider = TracerProvider(
        sampler=TraceIdRatioBased(ratio),
        id_generator=ids,
        resource=Resource.create({"service.name": f"screener-{role}", "service.namespace": "screener"}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=5)))
    tracer = provider.get_tracer("screener")

    class Otlp:
        def record(
            self, stage: str, frame_id: str, *, end_ms: int, duration_s: float, **facts: str | int
        ) -> None:
            try:
                trace_id = int(frame_id, 16)
            except ValueError:
                return  # a frame without an id, of an older bridge
            end_ns = end_ms * _NS_PER_MS
            context: Any = None
            if stage == ROOT_STAGE:
                ids.wanted = trace_id
            else:
                parent = SpanContext(trace_id, trace_id & _SPAN_ID_MASK, True, TraceFlags(TraceFlags.SAMPLED))
                context = set_span_in_context(NonRecordingSpan(parent))
            span = tracer.start_span(
                stage,
                context=context,
                kind=SpanKind.CONSUMER,
                start_time=end_ns - int(duration_s * 1e9),
                attributes={f"screener.{name}": value for name, value in facts.items()},
            )
            ids.wanted = None
            span.end(end_ns)

        def close(self) -> None:
            provider.shutdown()

    return Otlp()
