from __future__ import annotations

from django.urls import reverse

from projects.services.projects import invitation_create
from tests import factories


def test_who_was_invited_may_open_an_account(client, alice):
    project = factories.project("shop", people={"alice": "owner"})
    token = invitation_create(project=project, role="member", by=alice)
    client.get(reverse("projects:invitation", args=[token]))
    answer = client.post(
        "/accounts/signup/",
        {
            "username": "dora",
            "email": "dora@example.org",
            "password1": "a-long-new-password",
            "password2": "a-long-new-password",
        },
    )
    assert answer.status_code == 302
    assert client.session["_auth_user_id"]


def test_nobody_else_may(client, db):
    answer = client.get("/accounts/signup/")
    assert b"closed" in answer.content.lower()
