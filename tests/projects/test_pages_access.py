"""Every page of this room by role: strangers get 404, too low a role 403, a GET never writes."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone

from projects import planfile
from projects.models import Event, Project, Role
from projects.services import plans
from projects.urls import urlpatterns
from tests import factories
from tests.projects.pages import PLAN, client_of

V, M, T, W = Role.VIEWER, Role.MEMBER, Role.MAINTAINER, Role.OWNER
#: Route: (role to look, role to act, further arguments); None where the method is not taken.
ROUTES = {
    "project": (V, None, ()),
    "card": (V, None, ()),
    "pause": (None, T, ()),
    "resume": (None, T, ()),
    "publish": (None, T, ()),
    "settings": (V, T, ()),
    "ceiling": (None, W, ()),
    "settings-policies": (V, T, ()),
    "settings-instructions": (V, T, ()),
    "settings-profiles": (V, None, ()),
    "settings-members": (V, None, ()),
    "member-set": (None, W, ("bob",)),
    "invitation-create": (None, W, ()),
    "plan": (V, None, ()),
    "plan-number": (V, None, (1,)),
    "plan-download": (V, None, ()),
    "plan-number-download": (V, None, (1,)),
    "plan-draft": (None, M, ()),
    "plan-edit": (M, M, ()),
    "plan-upload": (M, M, ()),
    "plan-withdraw": (None, M, ()),
    "plan-approve": (None, T, ()),
    "plan-reject": (None, T, ()),
    "plan-retry": (None, T, ()),
    "plan-row": (M, None, ("need",)),
    "contract-new": (M, M, ()),
    "contract-validate": (None, M, ()),
    "contract-edit": (M, M, ("m1",)),
    "contract-remove": (None, M, ("m1",)),
    "inbox": (V, None, ()),
    "inbox-count": (V, None, ()),
    "log": (V, None, ()),
    "log-download": (V, None, ("csv",)),
}  # fmt: skip
OUTSIDE = {"list", "new", "login-once", "invitation", "site-instructions"}
PEOPLE = {role: f"the-{role.value}" for role in Role}


@pytest.fixture
def charlie(db):
    return User.objects.create(username="charlie")


@pytest.fixture
def shop(db, tutti_home, tmp_path):
    # Nobody signs in by password here, and hashing one takes longer than a page.
    for name in (*PEOPLE.values(), "bob"):
        User.objects.create(username=name)
    people = {**{name: role for role, name in PEOPLE.items()}, "bob": Role.MEMBER}
    made = factories.project("shop", people=people)
    source = factories.source_repository(tmp_path / "source", {"m1.py": "", "m2.py": ""})
    factories.hub(made, source)
    plans.plan_import(made, planfile.load(PLAN), factories.user(PEOPLE[W]))
    return made


def url_of(name: str, arguments) -> str:
    ids = [factories.user(a).pk if a == "bob" else a for a in arguments]
    return reverse(f"projects:{name}", args=["shop", *ids])


def test_every_route_is_in_the_table():
    assert {getattr(pattern, "name", None) for pattern in urlpatterns} == {*ROUTES, *OUTSIDE}


@pytest.mark.parametrize("name", ROUTES)
def test_stranger_gets_404(shop, charlie, name):
    look, act, arguments = ROUTES[name]
    client = client_of(charlie)
    method = client.get if look else client.post
    assert method(url_of(name, arguments)).status_code == 404
    if act:
        assert client.post(url_of(name, arguments)).status_code == 404


@pytest.mark.parametrize("name", ROUTES)
def test_anonymous_is_sent_to_the_login(shop, client, name):
    answer = client.get(url_of(name, ROUTES[name][2]))
    assert answer.status_code == 302 and "/accounts/login/" in answer["Location"]


@pytest.mark.parametrize("name", ROUTES)
def test_too_low_a_role_gets_403(shop, name):
    look, act, arguments = ROUTES[name]
    for method, needed in (("get", look), ("post", act)):
        for role in Role:
            if needed is None or role.covers(needed):
                continue
            client = client_of(factories.user(PEOPLE[role]))
            assert getattr(client, method)(url_of(name, arguments)).status_code == 403


@pytest.mark.parametrize("name", [name for name, (look, _, _) in ROUTES.items() if look])
def test_lowest_role_that_may_look_sees_the_page(shop, name):
    look, _, arguments = ROUTES[name]
    client = client_of(factories.user(PEOPLE[look or Role.VIEWER]))
    before = Project.objects.get().event_count
    answer = client.get(url_of(name, arguments))
    assert answer.status_code == (302 if name == "project" else 200)
    assert Project.objects.get().event_count == before == Event.objects.count()


@pytest.mark.parametrize("name", [name for name, (look, _, _) in ROUTES.items() if not look])
def test_get_of_an_action_is_refused(shop, name):
    client = client_of(factories.user(PEOPLE[W]))
    before = Event.objects.count()
    assert client.get(url_of(name, ROUTES[name][2])).status_code == 405
    assert Event.objects.count() == before


def test_archived_project_is_gone(shop):
    Project.objects.update(archived_at=timezone.now())
    client = client_of(factories.user(PEOPLE[W]))
    assert client.get(url_of("plan", ())).status_code == 404


def test_site_admin_sees_every_project(shop, django_user_model):
    admin = django_user_model.objects.create_superuser("root", password="x")
    assert client_of(admin).get(url_of("settings", ())).status_code == 200
