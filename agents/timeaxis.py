"""Put moments on the x axis of a chart, so that its ticks fall on whole hours or days. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.utils import timezone

#: From this length on the axis counts days.
DAYS_FROM = timedelta(days=3)


@dataclass
class TimeAxis:
    """Moments from begin to end as hours (or days) since the midnight before `begin`."""

    begin: datetime
    end: datetime
    origin: datetime = field(init=False)
    unit: float = field(init=False)

    def __post_init__(self) -> None:
        local = timezone.localtime(self.begin)
        self.origin = local.replace(hour=0, minute=0, second=0, microsecond=0)
        self.unit = 86400.0 if self.end - self.begin > DAYS_FROM else 3600.0

    def x(self, at: datetime) -> float:
        return (at - self.origin).total_seconds() / self.unit

    def text(self, x: float) -> str:
        at = timezone.localtime(self.origin + timedelta(seconds=round(x * self.unit)))
        if self.unit == 3600.0:
            return at.strftime("%H:%M:%S" if at.second else "%H:%M")
        is_midnight = not (at.hour or at.minute)
        return at.strftime("%m-%d" if is_midnight else "%m-%d %H:%M")
