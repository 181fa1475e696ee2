from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("projects", "0006_project_deleted")]
    operations = [
        migrations.AddField("project", "source_secret", models.TextField(blank=True, default="")),
        migrations.AddField(
            "project", "source_user", models.CharField(blank=True, default="", max_length=200)
        ),
        migrations.AddField(
            "project", "source_known_hosts", models.TextField(blank=True, default="")
        ),
    ]
