from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0005_measurement")]

    operations = [
        migrations.AddField("run", "waited_seconds", models.FloatField(default=0)),
        migrations.AddField("run", "laps", models.JSONField(default=list)),
    ]
