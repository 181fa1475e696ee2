"""The example libraries are cut by their packages into drafts that validate at once."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.urls import reverse

from agents.services.cutting import plan_cut
from projects import plancontent
from projects.models import Event
from projects.services.errors import Refused
from projects.services.plans import contract_save, plan_submit
from projects.services.projects import project_create
from tests import factories


def project_of(prepared, settings, name, alice):
    upstream = factories.source_repository(settings.TUTTI_HOME.parent / "upstream", {
        path.relative_to(prepared.repo.parent / "upstream").as_posix(): path.read_bytes().decode(
            "utf-8", "surrogateescape"
        )
        for path in sorted((prepared.repo.parent / "upstream").rglob("*"))
        if path.is_file() and ".git" not in path.parts and path.suffix in (".py", ".toml", ".ini",
                                                                            ".cfg", ".txt", ".md")
    })  # fmt: skip
    return project_create(slug=name, source=str(upstream), owner=alice)


@pytest.mark.parametrize("name", ["itsdangerous", "boltons", "marshmallow"])
def test_a_library_becomes_a_draft_without_a_problem(
    transactional_db, settings, tutti_home, example, name, client
):
    alice = factories.user("alice")
    project = project_of(example(name), settings, name, alice)
    said = StringIO()
    call_command("plan_cut", name, stdout=said)
    plan = project.plans.get()
    specs = plancontent.plan_specs(plan)
    assert 4 <= len(specs) <= 12
    assert plancontent.plan_problems(plan) == []
    assert "0 problems" in said.getvalue()
    event = Event.objects.get(project=project, kind="plan.cut")
    assert (event.actor, event.data["modules"]) == ("person:alice", [one.slug for one in specs])
    assert any(need.kind == "contract" for spec in specs for need in spec.needs)
    assert all(check.startswith("python -m pytest") for spec in specs for check in spec.checks)
    if name == "marshmallow":
        lanes = [{"fields", "schema"}]
        assert [set(lane.modules) for lane in plancontent.plan_report(plan).lanes] == lanes

    with pytest.raises(CommandError, match="that people cut"):
        call_command("plan_cut", name, stdout=said)
    plan_submit(plan, alice)
    with pytest.raises(Refused, match="waits for approval"):
        plan_cut(project, alice)


def test_it_is_cut_from_the_page_and_by_the_api(client, transactional_db, tutti_home, tmp_path):
    alice = factories.user("alice")
    source = factories.source_repository(tmp_path / "s", {"a.py": "import b\n", "b.py": "x = 1\n"})
    project = project_create(slug="small", source=str(source), owner=alice)
    client.force_login(alice)
    page = reverse("projects:plan", args=["small"])
    url = reverse("agents:plan-cut", args=["small"])
    assert f'hx-post="{url}"' in client.get(page).content.decode()
    assert client.post(url).status_code == 302
    plan = project.plans.get()
    (module,) = plancontent.plan_file(plan).modules
    assert module.owns == ["a.py", "b.py"], "two tiny files that belong together"
    text = client.get(page).content.decode()
    assert "Cut by imports" in text and f'hx-post="{url}"' not in text
    again = client.post("/api/projects/small/plans/cut")
    assert again.status_code == 422 and "people cut" in again.json()["message"]
    contract_save(plan, module.slug, alice, {**module.model_dump(), "brief": "Do it."})


def test_a_repository_without_code_says_what_to_do(transactional_db, tutti_home, tmp_path):
    alice = factories.user("alice")
    source = factories.source_repository(tmp_path / "s", {"README": "Words.\n"})
    project = project_create(slug="words", source=str(source), owner=alice)
    with pytest.raises(Refused, match="no code to cut"):
        plan_cut(project, alice)
    assert not project.plans.exists()
