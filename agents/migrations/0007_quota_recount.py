"""A quota whose figures are counted again may be found above its limit."""

from __future__ import annotations

from django.db import migrations, models

GUARD = """
CREATE OR REPLACE FUNCTION tutti_quota() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.reserved > OLD.reserved AND NEW.spent + NEW.reserved > NEW."limit" {unless} THEN
        RAISE EXCEPTION 'The quota of % is used up.', NEW."limit"
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
"""
UNLESS = "AND coalesce(current_setting('tutti.recount', true), '') <> 'on'"


class Migration(migrations.Migration):
    dependencies = [("agents", "0006_run_laps")]
    operations = [
        migrations.RunSQL(GUARD.format(unless=UNLESS), GUARD.format(unless="")),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                fields=["kind", "model", "-id"],
                name="run_used",
                condition=models.Q(input_tokens__isnull=False),
            ),
        ),
    ]
