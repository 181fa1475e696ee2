"""The site's chain knows where it ends."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q

#: Nobody may write an event between the look at the newest one and the end of this migration.
FILL = """
SELECT pg_advisory_xact_lock(x'74757369'::int);
INSERT INTO projects_sitechain (id, event_count, event_hash)
    SELECT 1, number, hash FROM projects_siteevent ORDER BY number DESC LIMIT 1;
"""


class Migration(migrations.Migration):
    dependencies = [("projects", "0008_actor_length")]
    operations = [
        migrations.CreateModel(
            name="SiteChain",
            fields=[
                (
                    "id",
                    models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False),
                ),
                ("event_count", models.BigIntegerField(default=0)),
                ("event_hash", models.CharField(blank=True, max_length=64)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=Q(id=1), name="site_chain_one"),
                ],
            },
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
