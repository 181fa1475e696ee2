"""People: members and roles, invitations, one-time links to sign in."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from projects import access, selectors
from projects.access import HtmxRequest
from projects.forms import RoleForm
from projects.models import Project, Role
from projects.services import projects as services
from projects.services.errors import Refused
from projects.views.answers import act

BACKEND = "django.contrib.auth.backends.ModelBackend"


@login_required
@require_GET
def members(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    return render(request, "projects/settings_members.html", _members(project))


def _members(project: Project) -> dict[str, object]:
    return {
        "project": project,
        "section": "members",
        "memberships": selectors.memberships(project),
        "invitations": selectors.invitations_open(project),
        "roles": Role,
    }


@login_required
@require_POST
def member_set(request: HtmxRequest, slug: str, pk: int) -> HttpResponse:
    """Give a member the role of the form; "none" takes them out."""
    project = access.project_for(request.user, slug, role=Role.OWNER)
    user = get_object_or_404(User, pk=pk, memberships__project=project)
    role = request.POST.get("role", "")
    if role != "none" and not RoleForm(request.POST).is_valid():
        return HttpResponse("There is no such role.", status=422, content_type="text/plain")
    return act(
        request,
        lambda: services.member_set(
            project=project, user=user, role=None if role == "none" else role, by=request.user
        ),
        to=reverse("projects:settings-members", args=[slug]),
        done=f"{user.get_username()} {'left the project' if role == 'none' else f'is {role}'}.",
    )


@login_required
@require_POST
@never_cache
def invitation_create(request: HtmxRequest, slug: str) -> HttpResponse:
    """Make a link and show it once: only its hash is stored."""
    project = access.project_for(request.user, slug, role=Role.OWNER)
    form = RoleForm(request.POST)
    if not form.is_valid():
        return HttpResponse("There is no such role.", status=422, content_type="text/plain")
    role = form.cleaned_data["role"]
    token = services.invitation_create(project=project, role=role, by=request.user)
    link = request.build_absolute_uri(reverse("projects:invitation", args=[token]))
    context = {**_members(project), "new_link": link, "new_role": role}
    return render(request, "projects/settings_members.html", context)


@login_required
@require_POST
def invitation_withdraw(request: HtmxRequest, slug: str, pk: int) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.OWNER)
    return act(
        request,
        lambda: services.invitation_withdraw(project=project, pk=pk, by=request.user),
        to=reverse("projects:settings-members", args=[slug]),
        done="Withdrawn: its link no longer works.",
    )


@never_cache
@require_http_methods(["GET", "POST"])
def invitation(request: HtmxRequest, token: str) -> HttpResponse:
    """Show who invites to what; only the button joins."""
    found = selectors.invitation(token)
    if request.method == "POST" and request.user.is_authenticated:
        try:
            project = services.invitation_accept(token=token, user=request.user)
        except Refused as error:
            context = {"refused": error.message}
            return render(request, "projects/invitation.html", context, status=409)
        messages.success(request, f"Welcome to {project.name}.")
        return redirect("projects:project", project.slug)
    # Whoever opens an account now does so by this invitation.
    request.session["invitation"] = token if found else ""
    status = 200 if found else 404
    return render(request, "projects/invitation.html", {"invitation": found}, status=status)


@never_cache
@require_http_methods(["GET", "POST"])
def login_once(request: HttpRequest, token: str) -> HttpResponse:
    """Sign in by a link that works once. Opening it changes nothing: mail scanners open links."""
    if request.method == "POST":
        link = services.login_link_use(token)
        if link is not None and link.user.is_active:
            login(request, link.user, backend=BACKEND)
            here = url_has_allowed_host_and_scheme(link.next_url, allowed_hosts=None)
            return redirect(link.next_url if here else "/")
    found = selectors.login_link(token)
    status = 200 if found else 410
    return render(request, "projects/login_once.html", {"link": found}, status=status)
