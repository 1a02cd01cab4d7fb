"""The Celery app that is measured: one task that does nothing. BENCH_MODE selects what watches it.

Each peer is set up as its documentation shows, and runs in the venv that has it: see `tests.benchmarks.variants`.
"""

import os

from celery import Celery, signals

app = Celery("bench", broker=os.environ.get("BROKER_URL", "memory://"))
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


def _install_agent() -> None:
    import sluice_agent

    sluice_agent.install()


def _connect_receivers() -> None:
    """Connect a receiver that does nothing to each signal of a task's course."""
    for signal in (
        signals.before_task_publish,
        signals.after_task_publish,
        signals.task_received,
        signals.task_prerun,
        signals.task_postrun,
    ):
        signal.connect(lambda **_: None, weak=False)


def _install_sdk() -> None:
    import sluice

    sluice.init()


def _instrument(**_: object) -> None:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


def _install_opentelemetry() -> None:
    """Instrument a worker's task processes once they are forked, and a producer at once."""
    if os.environ.get("BENCH_ROLE") == "producer":
        _instrument()
    else:
        signals.worker_process_init.connect(_instrument, weak=False)


def _install_sentry() -> None:
    import sentry_sdk

    sentry_sdk.init(traces_sample_rate=1.0)  # the DSN is in the environment


_INSTALL = {
    "sluice-agent": _install_agent,
    "signals": _connect_receivers,
    "sluice-celery": _install_sdk,
    "OpenTelemetry": _install_opentelemetry,
    "Sentry": _install_sentry,
}

if (mode := os.environ.get("BENCH_MODE")) in _INSTALL:
    _INSTALL[mode]()


@app.task
def noop() -> None:
    """Do nothing."""
