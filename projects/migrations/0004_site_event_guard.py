"""The site's own record only grows."""

from __future__ import annotations

from django.db import migrations

APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON projects_siteevent
    FOR EACH ROW EXECUTE FUNCTION tutti_append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON projects_siteevent
    FOR EACH STATEMENT EXECUTE FUNCTION tutti_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("projects", "0003_site_events")]
    operations = [
        migrations.RunSQL(
            APPEND_ONLY,
            "DROP TRIGGER append_only ON projects_siteevent;"
            "DROP TRIGGER append_only_truncate ON projects_siteevent;",
        ),
    ]
