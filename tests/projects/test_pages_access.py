"""Who sees a project beside its members; what its members may do is in the table of access."""

from __future__ import annotations

from django.test import Client
from django.urls import reverse
from django.utils import timezone

from projects.models import Project
from tests import factories
from tests.projects.pages import client_of, text_of


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


def test_form_from_before_signing_in_anew_is_told_to_reload(db):
    factories.project("shop")
    client = Client(enforce_csrf_checks=True)
    client.force_login(factories.user("alice"))
    answer = client.post(reverse("projects:pause", args=["shop"]))
    assert answer.status_code == 403
    assert "You signed in anew" in text_of(answer)
    assert "Sign out" in text_of(answer)  # It is a page like any other.
