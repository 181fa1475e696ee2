"""What must never happen to the record, kept by the database itself."""

from __future__ import annotations

from django.db import migrations

#: TRUNCATE is refused too, unless a session says that it may (a test database is emptied so).
APPEND_ONLY = """
CREATE FUNCTION tutti_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' AND current_setting('tutti.allow_truncate', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'Rows of % are append-only.', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON projects_event
    FOR EACH ROW EXECUTE FUNCTION tutti_append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON projects_event
    FOR EACH STATEMENT EXECUTE FUNCTION tutti_append_only();
"""

#: Swapping the last owner in one transaction passes, for the trigger looks at its end.
LAST_OWNER = """
CREATE FUNCTION tutti_last_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.role <> 'owner' THEN RETURN NULL; END IF;
    PERFORM 1 FROM projects_project WHERE id = OLD.project_id FOR UPDATE;
    IF FOUND AND NOT EXISTS (
        SELECT 1 FROM projects_membership WHERE project_id = OLD.project_id AND role = 'owner'
    ) THEN
        RAISE EXCEPTION 'A project keeps at least one owner.' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER last_owner AFTER UPDATE OR DELETE ON projects_membership
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tutti_last_owner();
"""

#: A contract of an approved plan does not change; an amendment is its next version.
CONTRACT = """
CREATE FUNCTION tutti_contract_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM projects_plan WHERE id = OLD.plan_id
               AND status IN ('approved', 'superseded')) THEN
        RAISE EXCEPTION 'A contract of an approved plan does not change.'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN COALESCE(NEW, OLD);
END $$;
CREATE TRIGGER contract_fixed BEFORE UPDATE OR DELETE ON projects_contract
    FOR EACH ROW EXECUTE FUNCTION tutti_contract_fixed();
"""


class Migration(migrations.Migration):
    dependencies = [("projects", "0001_initial")]
    operations = [
        migrations.RunSQL(
            APPEND_ONLY,
            "DROP TRIGGER append_only ON projects_event;"
            "DROP TRIGGER append_only_truncate ON projects_event;"
            "DROP FUNCTION tutti_append_only();",
        ),
        migrations.RunSQL(
            LAST_OWNER,
            "DROP TRIGGER last_owner ON projects_membership;DROP FUNCTION tutti_last_owner();",
        ),
        migrations.RunSQL(
            CONTRACT,
            "DROP TRIGGER contract_fixed ON projects_contract;"
            "DROP FUNCTION tutti_contract_fixed();",
        ),
    ]
