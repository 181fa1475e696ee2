from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0008_provider_secret")]

    operations = [
        migrations.CreateModel(
            name="Fleet",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False,
                                           verbose_name="ID")),
                ("claims", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.AddField(
            model_name="host",
            name="check_slots",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                fields=["-id"],
                name="run_memory",
                condition=models.Q(memory_peak_mb__isnull=False, needs_slot=True),
            ),
        ),
    ]  # fmt: skip
