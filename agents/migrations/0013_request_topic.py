from django.db import migrations

#: A request's topic lies below its module's since, so that both are closed together.
FORWARD = """
UPDATE projects_attention AS attention
SET topic = 'p/' || request.project_id || '/module/' || request.module_id
    || '/request/' || request.id
FROM agents_request AS request
WHERE attention.topic = 'p/' || request.project_id || '/request/' || request.id
"""
BACK = """
UPDATE projects_attention AS attention
SET topic = 'p/' || request.project_id || '/request/' || request.id
FROM agents_request AS request
WHERE attention.topic = 'p/' || request.project_id || '/module/' || request.module_id
    || '/request/' || request.id
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0012_provider_test"), ("projects", "0007_source_key")]

    operations = [migrations.RunSQL(FORWARD, BACK)]
