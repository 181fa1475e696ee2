from __future__ import annotations

from django.urls import path

from agents.views import (
    board,
    coupling,
    economics,
    estimates,
    modules,
    plans,
    profiles,
    providers,
    quotas,
    readiness,
    runs,
    site,
)

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
    path("projects/<slug:slug>/plan/submit/", plans.submit, name="plan-submit"),
    path("projects/<slug:slug>/plan/cut/", plans.cut, name="plan-cut"),
    path("projects/<slug:slug>/plan/estimates/", estimates.panel, name="plan-estimates"),
    path("projects/<slug:slug>/plan/coupling/", coupling.coupling, name="coupling"),
    path(
        "projects/<slug:slug>/plan/coupling/apply/", coupling.coupling_apply, name="coupling-apply"
    ),
    path(
        "projects/<slug:slug>/plan/coupling/dismiss/",
        coupling.coupling_dismiss,
        name="coupling-dismiss",
    ),
    path(f"{MODULE}/-/pause/", modules.module_pause, name="module-pause"),
    path(f"{MODULE}/-/resume/", modules.module_resume, name="module-resume"),
    path(f"{MODULE}/-/retry/", modules.module_retry, name="module-retry"),
    path(f"{MODULE}/-/cancel/", modules.module_cancel, name="module-cancel"),
    path(f"{MODULE}/-/priority/", modules.module_priority, name="module-priority"),
    path(f"{MODULE}/-/leave-lane/", modules.module_lane_leave, name="module-lane-leave"),
    path(f"{MODULE}/", modules.module, name="module"),
    path("projects/<slug:slug>/economics/", economics.economics, name="economics"),
    path(
        "projects/<slug:slug>/economics/tables.csv",
        economics.economics_download,
        name="economics-download",
    ),
    path("projects/<slug:slug>/runs/", economics.runs, name="runs"),
    path("projects/<slug:slug>/runs/runs.csv", economics.runs_download, name="runs-download"),
    path("projects/<slug:slug>/runs/<int:pk>/", runs.run, name="run"),
    path("projects/<slug:slug>/runs/<int:pk>/log/", runs.run_log, name="run-log"),
    path("projects/<slug:slug>/runs/<int:pk>/stop/", runs.run_stop, name="run-stop"),
    path("projects/<slug:slug>/runs/<int:pk>/steer/", runs.steer, name="steer"),
    path("projects/<slug:slug>/runs/<int:pk>/recording/", runs.run_recording, name="run-recording"),
    path(
        "projects/<slug:slug>/requests/<int:pk>/answer/",
        modules.request_answer,
        name="request-answer",
    ),
    path("projects/<slug:slug>/profiles/", profiles.project_profiles, name="profiles"),
    path("projects/<slug:slug>/profiles/<slug:role>/", profiles.profile_set, name="profile-set"),
    path("site/profiles/", profiles.site_profiles, name="site-profiles"),
    path("site/profiles/<slug:role>/", profiles.site_profile_set, name="site-profile-set"),
    path("projects/<slug:slug>/quotas/", quotas.quota_list, name="quotas"),
    path("projects/<slug:slug>/quotas/add/", quotas.quota_add, name="quota-add"),
    path("projects/<slug:slug>/quotas/preview/", quotas.quota_preview, name="quota-preview"),
    path("projects/<slug:slug>/quotas/quotas.csv", quotas.quota_download, name="quota-download"),
    path("projects/<slug:slug>/quotas/history/", quotas.quota_history, name="quota-history"),
    path(
        "projects/<slug:slug>/quotas/history.csv",
        quotas.quota_history_download,
        name="quota-history-download",
    ),
    path("projects/<slug:slug>/quotas/<int:pk>/", quotas.quota, name="quota"),
    path("projects/<slug:slug>/quotas/<int:pk>/remove/", quotas.quota_remove, name="quota-remove"),
    path("site/", site.site, name="site"),
    path("site/hosts/<int:pk>/drain/", site.host_drain, name="host-drain"),
    path("site/hosts/<int:pk>/readings.csv", site.host_download, name="host-download"),
    path("site/quotas/", quotas.quota_list, name="site-quotas"),
    path("site/quotas/add/", quotas.quota_add, name="site-quota-add"),
    path("site/quotas/preview/", quotas.quota_preview, name="site-quota-preview"),
    path("site/quotas/quotas.csv", quotas.quota_download, name="site-quota-download"),
    path("site/quotas/history/", quotas.quota_history, name="site-quota-history"),
    path(
        "site/quotas/history.csv",
        quotas.quota_history_download,
        name="site-quota-history-download",
    ),
    path("site/quotas/<int:pk>/", quotas.quota, name="site-quota"),
    path("site/quotas/<int:pk>/remove/", quotas.quota_remove, name="site-quota-remove"),
    path("site/providers/", providers.provider_list, name="providers"),
    path("site/providers/set/", providers.provider_set, name="provider-set"),
    path("site/providers/secret/", providers.provider_secret, name="provider-secret"),
    path("site/providers/<int:pk>/reset/", providers.provider_reset, name="provider-reset"),
    path("site/providers/<int:pk>/remove/", providers.provider_remove, name="provider-remove"),
    path("site/prices/set/", providers.price_set, name="price-set"),
    path("site/prices/<int:pk>/remove/", providers.price_remove, name="price-remove"),
    path("site/prices.csv", providers.price_download, name="price-download"),
    path("site/log/", site.site_log, name="site-log"),
    path("site/log/events.<str:form>", site.site_log_download, name="site-log-download"),
]
