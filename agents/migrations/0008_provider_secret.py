from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0007_quota_recount")]

    operations = [
        migrations.AddField(
            "provider", "secret", models.TextField(blank=True, default="", editable=False),
            preserve_default=False,
        ),
        migrations.AddField(
            "provider", "secret_env", models.CharField(blank=True, default="", max_length=60),
            preserve_default=False,
        ),
    ]
