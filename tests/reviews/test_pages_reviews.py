from __future__ import annotations

import pytest
from django.urls import reverse

from projects.models import Event, Module
from projects.redaction import Redactor
from reviews import selectors
from reviews.models import Review
from tests import factories as make

HTMX = {"HX-Request": "true"}


@pytest.fixture
def shop(db, tutti_home):
    return make.project(people={"alice": "owner", "mia": "maintainer", "bob": "member"})


@pytest.fixture
def module(shop):
    return make.module(make.plan(shop), "cart", "reviewing")


def page(client, review, **headers):
    client.force_login(make.user("bob"))
    url = reverse("reviews:review", args=[review.project.slug, review.pk])
    return client.get(url, headers=headers).content.decode()


@pytest.fixture
def changed(shop, module, tmp_path):
    """A review of a real change in a real hub."""
    source = make.source_repository(tmp_path / "team", {"cart.py": "a = 1\nb = 2\nc = 3\n"})
    base = make.git(source, "rev-parse", "HEAD")
    head = make.commit(source, {"cart.py": "a = 1\nb = 20\nc = 3\n", "new.py": "d = '<b>'\n"})
    make.hub(shop, source)
    return make.review(module, "rebuild", base_commit=base, head_commit=head, summary="Not yet.")


def test_page_shows_judgement_and_diff(client, changed):
    html = page(client, changed)
    for text in ("Not yet.", "recorded-strong", "cart.py", "new.py"):
        assert text in html
    assert '<tr class="del">' in html
    assert '<tr class="add" id="f1-L2">' in html
    assert "&lt;b&gt;" in html


def test_finding_stands_at_its_line(client, changed, module):
    there = make.finding(module, "Too much.", review=changed, path="cart.py", line=2)
    apart = make.finding(module, "Where is the index?", review=changed, path="desk.py", line=9)
    html = page(client, changed)
    assert html.index('id="f1-L2"') < html.index(f'id="finding-{there.pk}"')
    assert html.index(f'id="finding-{apart.pk}"') < html.index('id="f1-L2"')
    assert html.count("Too much.") == 1


def test_each_finding_is_shown_once(changed, module):
    for line in (1, 2, 2, 99, None):
        make.finding(module, "!", review=changed, path="cart.py", line=line)
    findings = selectors.review_findings(changed)
    shown = selectors.diff_with_findings(selectors.review_diff(changed, Redactor()), findings)
    inline = [f for file in shown.files for _, found in file.rows for f in found]
    assert sorted(f.pk for f in inline + shown.elsewhere) == sorted(f.pk for f in findings)
    assert len(inline) == 3


def test_checks_of_the_reviewed_commit_are_shown(client, changed, module):
    make.check(module, commit=changed.head_commit, output="all fine")
    make.check(module, commit=make.SHA(9), output="of another commit")
    html = page(client, changed)
    assert "all fine" in html
    assert "of another commit" not in html


def test_review_without_a_hub_says_so_and_still_opens(client, module):
    html = page(client, make.review(module, summary="Good."))
    assert "Good." in html
    assert "The diff can&#x27;t be read" in html


def test_next_and_previous_are_linked(client, changed, module):
    last = make.review(module)
    assert reverse("reviews:review", args=["shop", changed.pk]) in page(client, last)
    assert reverse("reviews:review", args=["shop", last.pk]) in page(client, changed)


def test_review_of_another_project_is_404(client, module):
    review = make.review(module)
    make.project("other")
    client.force_login(make.user("alice"))
    assert client.get(f"/projects/other/reviews/{review.pk}/").status_code == 404


def overrule(client, review, name="mia", **data):
    client.force_login(make.user(name))
    url = reverse("reviews:overrule", args=["shop", review.pk])
    return client.post(url, data, headers=HTMX)


def test_maintainer_overrules_with_a_reason(client, module):
    review = make.review(module, "rebuild")
    assert overrule(client, review, verdict="approve", reason="It is right.").status_code == 200
    module.refresh_from_db()
    assert module.status == "merging"
    newest = Review.objects.latest("pk")
    assert (newest.verdict, newest.person, newest.summary) == (
        "approve", make.user("mia"), "It is right.",
    )  # fmt: skip
    assert Event.objects.get(kind="review.overruled").data["reason"] == "It is right."


def test_nul_of_a_reason_becomes_visible(client, module):
    review = make.review(module, "fix")
    assert overrule(client, review, verdict="rebuild", reason="Anew.\0").status_code == 200
    module.refresh_from_db()
    assert (module.status, module.reason) == ("building", "Anew.␀")


def test_overruling_without_a_reason_is_refused(client, module):
    answer = overrule(client, make.review(module), verdict="approve", reason=" ")
    assert answer.status_code == 422
    assert "Say why" in answer.content.decode()


def test_overruling_an_old_review_is_stale(client, module):
    old = make.review(module, "rebuild")
    make.review(module, "approve")
    assert overrule(client, old, verdict="approve", reason="Yes.").status_code == 409
    assert Module.objects.get(pk=module.pk).status == "reviewing"


def test_member_may_not_overrule(client, module):
    review = make.review(module)
    assert overrule(client, review, "bob", verdict="approve", reason="Yes.").status_code == 403


# --- The queue -----------------------------------------------------------------------------------


def queue_page(client, name="bob"):
    client.force_login(make.user(name))
    return client.get(reverse("reviews:queue", args=["shop"])).content.decode()


def test_queue_is_in_merging_order_with_the_current_merge(client, shop, module):
    for slug, priority, length in (("late", 0, 1), ("long", 0, 90), ("urgent", 5, 1)):
        make.module(module.plan, slug, "merging", priority=priority, path_length=length)
    make.merge(module, "testing")
    html = queue_page(client)
    waiting = html[html.index('<ol id="waiting">') :]
    assert waiting.index(">urgent<") < waiting.index(">long<") < waiting.index(">late<")
    assert "the merged tree is being checked" in html


def test_ended_merges_show_outcome_and_checks(client, module):
    make.merge(module, "merged", tested_commit=make.SHA(77))
    make.merge(module, "refused", reason="Red on the merged tree.")
    make.check(module, phase="merge", commit=make.SHA(77), command="pytest -q cart", flaky=True)
    html = queue_page(client)
    for text in ("Red on the merged tree.", "pytest -q cart", "flaky", make.SHA(77)[:10]):
        assert text in html


def test_queue_costs_the_same_for_many_merges(shop, module, django_assert_num_queries):
    for n in range(3, 40):
        make.merge(module, "merged", tested_commit=make.SHA(n))
        make.check(module, phase="merge", commit=make.SHA(n))
    with django_assert_num_queries(3):
        found = selectors.queue(shop)
    assert len(found.ended) == 37
    assert all(len(shown.checks) == 1 for shown in found.ended)


def test_publish_moves_the_teams_branch(client, shop, module, tmp_path):
    source = make.source_repository(tmp_path / "team", {"a.py": "a = 1\n"})
    make.git(source, "checkout", "-q", "-b", "elsewhere")
    hub = make.hub(shop, source)
    old = hub.head("refs/heads/tutti/integration")
    assert old is not None
    new = hub.commit_files(old, {"a.py": b"a = 2\n"}, "Build.")
    assert hub.swap("refs/heads/tutti/integration", new, old)
    client.force_login(make.user("mia"))
    url = reverse("projects:publish", args=["shop"])
    answer = client.post(url, {"next": reverse("reviews:queue", args=["shop"])}, follow=True)
    assert make.git(source, "rev-parse", "main") == new
    assert "All of it is published." in answer.content.decode()
