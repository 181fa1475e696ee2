from __future__ import annotations

from django.db import models


class Host(models.Model):
    """A machine that runs agents, the newest reading of it, and how many it can carry."""

    name = models.CharField(max_length=200, unique=True)
    cores = models.PositiveIntegerField(default=1)
    memory_mb = models.PositiveIntegerField(default=0)
    memory_available_mb = models.PositiveIntegerField(default=0)
    disk_free_mb = models.PositiveIntegerField(default=0)
    #: Share of the cores in use, 0 to 100; None before the second reading.
    cpu_percent = models.FloatField(null=True, blank=True)
    #: Share of time that something waited for memory in the last 10 s (PSI `some avg10` and
    #: `full avg10`); None where the kernel does not say.
    pressure_some = models.FloatField(null=True, blank=True)
    pressure_full = models.FloatField(null=True, blank=True)
    #: Where memory comes from: "cgroup" or "proc", and what is odd about the readings.
    source = models.CharField(max_length=20, blank=True)
    doubt = models.CharField(max_length=300, blank=True)
    #: Agents that are alive here, at work or not.
    alive = models.PositiveIntegerField(default=0)
    #: Agents that may be alive here; None before the first reading.
    capacity = models.PositiveIntegerField(null=True, blank=True)
    capacity_reason = models.CharField(max_length=300, blank=True)
    capacity_at = models.DateTimeField(null=True, blank=True)
    #: Checks that may run at once here; None before the first reading.
    check_slots = models.PositiveIntegerField(null=True, blank=True)
    #: Since when there was no pressure; None while there is.
    calm_since = models.DateTimeField(null=True, blank=True)
    sandbox = models.CharField(max_length=20, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    draining = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.name


class Fleet(models.Model):
    """The one row that every claim of a slot locks: what hosts carry is shared by all projects."""

    claims = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.claims} claims"


class HostReading(models.Model):
    """One point of a host's history; `reason` is set where its capacity changed."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="readings")
    at = models.DateTimeField()
    memory_mb = models.PositiveIntegerField()
    memory_available_mb = models.PositiveIntegerField()
    cpu_percent = models.FloatField(null=True, blank=True)
    pressure_some = models.FloatField(null=True, blank=True)
    pressure_full = models.FloatField(null=True, blank=True)
    alive = models.PositiveIntegerField(default=0)
    capacity = models.PositiveIntegerField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes = [models.Index(fields=["host", "at"], name="host_reading_at")]

    def __str__(self) -> str:
        return f"{self.host} {self.at}"
