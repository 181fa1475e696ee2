"""Judgements are append-only; a merge is frozen once it ended."""

from __future__ import annotations

from django.db import migrations

TABLES = ("reviews_review", "reviews_finding", "reviews_checkresult")

APPEND_ONLY = "".join(
    f"""
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION tutti_append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION tutti_append_only();
"""
    for table in TABLES
)
UNDO = "".join(
    f"DROP TRIGGER append_only ON {table};DROP TRIGGER append_only_truncate ON {table};"
    for table in TABLES
)

FROZEN = """
CREATE FUNCTION tutti_merge_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status IN ('merged', 'refused', 'abandoned') THEN
        RAISE EXCEPTION 'A merge that ended does not change.' USING ERRCODE = 'check_violation';
    END IF;
    RETURN COALESCE(NEW, OLD);
END $$;
CREATE TRIGGER merge_frozen BEFORE UPDATE OR DELETE ON reviews_merge
    FOR EACH ROW EXECUTE FUNCTION tutti_merge_frozen();
"""


class Migration(migrations.Migration):
    dependencies = [("reviews", "0001_initial"), ("projects", "0002_guards")]
    operations = [
        migrations.RunSQL(APPEND_ONLY, UNDO),
        migrations.RunSQL(
            FROZEN, "DROP TRIGGER merge_frozen ON reviews_merge;DROP FUNCTION tutti_merge_frozen();"
        ),
    ]
