"""Django's user names have up to 150 characters, and an actor's kind stands before them."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("projects", "0007_source_key")]
    operations = [
        migrations.AlterField(
            "event",
            "actor",
            models.CharField(max_length=160, help_text="person:alice, run:91 or system:clock."),
        ),
        migrations.AlterField("siteevent", "actor", models.CharField(max_length=160)),
        migrations.AlterField(
            "attention", "closed_by", models.CharField(max_length=160, blank=True)
        ),
    ]
