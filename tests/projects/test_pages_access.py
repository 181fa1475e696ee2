"""Who sees a project beside its members; what its members may do is in the table of access."""

from __future__ import annotations

from django.urls import reverse
from django.utils import timezone

from projects.models import Project
from tests import factories
from tests.projects.pages import client_of


def test_archived_project_is_gone(db):
    shop = factories.project("shop", archived_at=timezone.now())
    assert shop.memberships.filter(user__username="alice", role="owner").exists()
    page = reverse("projects:plan", args=["shop"])
    assert client_of(factories.user("alice")).get(page).status_code == 404
    Project.objects.update(archived_at=None)
    assert client_of(factories.user("alice")).get(page).status_code == 200


def test_site_admin_sees_every_project(db):
    factories.project("shop")
    admin = factories.user("root", is_superuser=True)
    assert client_of(admin).get(reverse("projects:settings", args=["shop"])).status_code == 200
