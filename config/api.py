"""The one API: session log-in with its CSRF token, one shape of errors, a router of each room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.security import django_auth

from agents.api import router as agents_router
from agents.api_economics import router as economics_router
from agents.api_plans import router as plans_router
from agents.api_quotas import router as quotas_router
from agents.api_quotas import site_router as site_quotas_router
from agents.api_readiness import router as readiness_router
from agents.api_site import router as site_router
from agents.api_tests import router as tests_router
from agents.api_tests import site_router as site_tests_router
from projects.api import router as projects_router
from projects.services.errors import Problem, Refused, Stale
from reviews.api import router as reviews_router

api = NinjaAPI(
    title="Tutti",
    version="1",
    description="Projects, plans, modules, runs and reviews. Sign in at /accounts/login/; writes "
    "need the header X-CSRFToken. Every error is {message, problems}.",
    urls_namespace="api",
    auth=django_auth,
    docs_decorator=login_required,
)
api.add_router("/projects", projects_router)
api.add_router("/projects", plans_router)
api.add_router("/projects", reviews_router)
api.add_router("/projects", agents_router)
api.add_router("/projects", economics_router)
api.add_router("/projects", quotas_router)
api.add_router("/site", site_quotas_router)
api.add_router("/site", site_router)
api.add_router("/projects", readiness_router)
api.add_router("/projects", tests_router)
api.add_router("/site", site_tests_router)


def _error(
    request: HttpRequest, status: int, message: str, problems: Sequence[Problem] = ()
) -> HttpResponse:
    body: dict[str, Any] = {
        "message": message,
        "problems": [
            {"module": problem.module, "field": problem.field, "message": problem.message}
            for problem in problems
        ],
    }
    return api.create_response(request, body, status=status)


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return _error(request, 404, "There is no such thing, or it is not yours to see.")


@api.exception_handler(PermissionDenied)
def _denied(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return _error(request, 403, str(error) or "Your role does not allow this.")


@api.exception_handler(AuthenticationError)
def _signed_out(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return _error(request, 401, "Sign in first, at /accounts/login/.")


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    return _error(request, error.status_code, str(error))


@api.exception_handler(Stale)
def _stale(request: HttpRequest, error: Stale) -> HttpResponse:
    return _error(request, 409, error.message, error.problems)


@api.exception_handler(Refused)
def _refused(request: HttpRequest, error: Refused) -> HttpResponse:
    return _error(request, 422, error.message, error.problems)


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    problems = [
        Problem("", ".".join(str(part) for part in found["loc"]), str(found["msg"]))
        for found in error.errors
    ]
    return _error(request, 422, "The request is not as the API describes it.", problems)
