from __future__ import annotations

from django.urls import path

from agents.views import board, coupling, modules, profiles, readiness, runs

app_name = "agents"

#: A module's slug may hold slashes, but no part of one is a dash: what follows "/-/" is an action.
MODULE = "projects/<slug:slug>/modules/<path:module>"

urlpatterns = [
    path("projects/<slug:slug>/board/", board.board, name="board"),
    path("projects/<slug:slug>/recover/", board.project_recover, name="project-recover"),
    path("projects/<slug:slug>/readiness/", readiness.readiness, name="readiness"),
    path("projects/<slug:slug>/readiness/panel/", readiness.panel, name="readiness-panel"),
    path(
        "projects/<slug:slug>/readiness/measure/",
        readiness.measurement_ask,
        name="readiness-measure",
    ),
    path("projects/<slug:slug>/plan/coupling/", coupling.coupling, name="coupling"),
    path(
        "projects/<slug:slug>/plan/coupling/apply/", coupling.coupling_apply, name="coupling-apply"
    ),
    path(f"{MODULE}/-/pause/", modules.module_pause, name="module-pause"),
    path(f"{MODULE}/-/resume/", modules.module_resume, name="module-resume"),
    path(f"{MODULE}/-/retry/", modules.module_retry, name="module-retry"),
    path(f"{MODULE}/-/cancel/", modules.module_cancel, name="module-cancel"),
    path(f"{MODULE}/-/priority/", modules.module_priority, name="module-priority"),
    path(f"{MODULE}/-/leave-lane/", modules.module_lane_leave, name="module-lane-leave"),
    path(f"{MODULE}/", modules.module, name="module"),
    path("projects/<slug:slug>/runs/<int:pk>/", runs.run, name="run"),
    path("projects/<slug:slug>/runs/<int:pk>/log/", runs.run_log, name="run-log"),
    path("projects/<slug:slug>/runs/<int:pk>/stop/", runs.run_stop, name="run-stop"),
    path(
        "projects/<slug:slug>/requests/<int:pk>/answer/",
        modules.request_answer,
        name="request-answer",
    ),
    path("projects/<slug:slug>/profiles/", profiles.project_profiles, name="profiles"),
    path("projects/<slug:slug>/profiles/<slug:role>/", profiles.profile_set, name="profile-set"),
    path("site/profiles/", profiles.site_profiles, name="site-profiles"),
    path("site/profiles/<slug:role>/", profiles.site_profile_set, name="site-profile-set"),
]
