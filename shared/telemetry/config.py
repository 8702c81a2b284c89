"""The settings of telemetry, the same on both planes: section `telemetry`, `FLOE_TELEMETRY__...`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from shared.telemetry.logs import LogFormat, LogLevel


class TelemetryConfig(BaseModel):
    """Where logs and traces go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    otlp_endpoint: str | None = Field(
        default=None,
        description="OTLP/gRPC collector for traces, e.g. http://127.0.0.1:4317; without it they are not exported.",
    )
    log_level: LogLevel = Field(default=LogLevel.INFO, description="DEBUG, INFO, WARNING or ERROR.")
    log_format: LogFormat = Field(
        default=LogFormat.AUTO,
        description="CONSOLE for people, JSON for machines, AUTO: CONSOLE on a terminal, else JSON.",
    )
