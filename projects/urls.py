from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from projects.views import archive, contracts, inbox, log, people, plans, projects, settings

app_name = "projects"

P = "projects/<slug:slug>/"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", projects.project_list, name="list"),
    path("projects/new/", projects.project_create, name="new"),
    path("login/once/<str:token>/", people.login_once, name="login-once"),
    path("invitations/<str:token>/", people.invitation, name="invitation"),
    path("site/instructions/", settings.site_instructions, name="site-instructions"),
    path("archive/", archive.archive_list, name="archive-list"),
    path("archive/<slug:slug>/events.<str:form>", archive.archive_log, name="archive-log"),
    path("archive/<slug:slug>/restore/", archive.project_restore, name="restore"),
    path("archive/<slug:slug>/delete/", archive.project_delete, name="delete"),
    path(P, projects.project, name="project"),
    path(P + "archive/", archive.project_archive, name="archive"),
    path(P + "card/", projects.project_card, name="card"),
    path(P + "pause/", projects.project_pause, name="pause"),
    path(P + "resume/", projects.project_resume, name="resume"),
    path(P + "publish/", projects.publish, name="publish"),
    path(P + "settings/", settings.general, name="settings"),
    path(P + "settings/ceiling/", settings.ceiling_set, name="ceiling"),
    path(P + "settings/source-key/", settings.source_key_set, name="source-key"),
    path(P + "settings/policies/", settings.policies, name="settings-policies"),
    path(P + "settings/instructions/", settings.instructions, name="settings-instructions"),
    path(P + "settings/profiles/", settings.profiles, name="settings-profiles"),
    path(P + "settings/members/", people.members, name="settings-members"),
    path(P + "settings/members/<int:pk>/", people.member_set, name="member-set"),
    path(P + "settings/invitations/", people.invitation_create, name="invitation-create"),
    path(
        P + "settings/invitations/<int:pk>/withdraw/",
        people.invitation_withdraw,
        name="invitation-withdraw",
    ),
    path(P + "plan/", plans.plan, name="plan"),
    path(P + "plan/<int:number>/", plans.plan, name="plan-number"),
    path(P + "plan/tutti.yaml", plans.plan_download, name="plan-download"),
    path(P + "plan/<int:number>/tutti.yaml", plans.plan_download, name="plan-number-download"),
    path(P + "plan/draft/", plans.plan_draft, name="plan-draft"),
    path(P + "plan/propose/", plans.plan_propose, name="plan-propose"),
    path(P + "plan/edit/", plans.plan_edit, name="plan-edit"),
    path(P + "plan/upload/", plans.plan_upload, name="plan-upload"),
    path(P + "plan/withdraw/", plans.plan_withdraw, name="plan-withdraw"),
    path(P + "plan/approve/", plans.plan_approve, name="plan-approve"),
    path(P + "plan/reject/", plans.plan_reject, name="plan-reject"),
    path(P + "plan/retry/", plans.plan_retry, name="plan-retry"),
    path(P + "plan/row/<str:kind>/", contracts.form_row, name="plan-row"),
    path(P + "plan/new-module/", contracts.contract_new, name="contract-new"),
    path(P + "plan/validate/", contracts.contract_validate, name="contract-validate"),
    path(P + "plan/modules/<path:module>/edit/", contracts.contract_edit, name="contract-edit"),
    path(
        P + "plan/modules/<path:module>/remove/", contracts.contract_remove, name="contract-remove"
    ),
    path(P + "inbox/", inbox.inbox, name="inbox"),
    path(P + "inbox/count/", inbox.inbox_count, name="inbox-count"),
    path(P + "log/", log.log, name="log"),
    path(P + "log/events.<str:form>", log.log_download, name="log-download"),
]
