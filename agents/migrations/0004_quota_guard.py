"""What is spent and reserved of a quota never grows above its limit by reserving."""

from __future__ import annotations

from django.db import migrations

#: Reservations are made by conditional updates; this is the wall behind them. Settling a run that
#: used more than it reserved, and lowering a limit below what is in use, stay legal.
QUOTA = """
CREATE FUNCTION tutti_quota() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.reserved > OLD.reserved AND NEW.spent + NEW.reserved > NEW."limit" THEN
        RAISE EXCEPTION 'The quota of % is used up.', NEW."limit"
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER quota BEFORE UPDATE OF reserved ON agents_quota
    FOR EACH ROW EXECUTE FUNCTION tutti_quota();
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0003_quotas_and_hosts")]
    operations = [
        migrations.RunSQL(
            QUOTA, "DROP TRIGGER quota ON agents_quota;DROP FUNCTION tutti_quota();"
        ),
    ]
