"""A run's fence never falls, its end is final, and what it logged stays."""

from __future__ import annotations

from django.db import migrations

RUN = """
CREATE FUNCTION tutti_run_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.fence < OLD.fence THEN
        RAISE EXCEPTION 'A fence never falls.' USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.status NOT IN ('queued', 'running', 'checking', 'stopping')
       AND NEW.status <> OLD.status THEN
        RAISE EXCEPTION 'A run that ended stays ended.' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.worker <> OLD.worker AND OLD.worker <> '' AND NEW.fence <= OLD.fence THEN
        RAISE EXCEPTION 'A new worker needs a higher fence.' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER run_guard BEFORE UPDATE ON agents_run
    FOR EACH ROW EXECUTE FUNCTION tutti_run_guard();
"""

#: `active_runs` is kept by the claiming updates; this is the wall behind them. Lowering the
#: ceiling below what runs is legal, so only a growing number is held against it.
CEILING = """
CREATE FUNCTION tutti_ceiling() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.active_runs > OLD.active_runs AND NEW.active_runs > NEW.ceiling THEN
        RAISE EXCEPTION 'The ceiling of % runs is reached.', NEW.ceiling
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER ceiling BEFORE UPDATE OF active_runs ON projects_project
    FOR EACH ROW EXECUTE FUNCTION tutti_ceiling();
"""

APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON agents_runlog
    FOR EACH ROW EXECUTE FUNCTION tutti_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON agents_conversationentry
    FOR EACH ROW EXECUTE FUNCTION tutti_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0001_initial"), ("projects", "0002_guards")]
    operations = [
        migrations.RunSQL(
            RUN, "DROP TRIGGER run_guard ON agents_run;DROP FUNCTION tutti_run_guard();"
        ),
        migrations.RunSQL(
            CEILING, "DROP TRIGGER ceiling ON projects_project;DROP FUNCTION tutti_ceiling();"
        ),
        migrations.RunSQL(
            APPEND_ONLY,
            "DROP TRIGGER append_only ON agents_runlog;"
            "DROP TRIGGER append_only ON agents_conversationentry;",
        ),
    ]
