"""Spans of time for people."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

UNKNOWN = "unknown"


def since(time: datetime | None) -> str:
    """Return how long ago a time was."""
    return UNKNOWN if time is None else span(datetime.now(timezone.utc) - _as_utc(time))


def until(time: datetime | None) -> str:
    """Return how far off a time is."""
    return UNKNOWN if time is None else span(_as_utc(time) - datetime.now(timezone.utc))


def span(time: timedelta) -> str:
    """Return a duration in the two units that matter; the clocks of two machines may differ."""
    seconds = max(0, int(time.total_seconds()))
    minutes, hours = seconds // 60, seconds // 3600
    if hours:
        return f"{hours} h {minutes % 60:02} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def _as_utc(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)
