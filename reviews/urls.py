from __future__ import annotations

from django.urls import path

from reviews import views

app_name = "reviews"

urlpatterns = [
    path("projects/<slug:slug>/reviews/<int:pk>/", views.review, name="review"),
    path("projects/<slug:slug>/reviews/<int:pk>/overrule/", views.overrule, name="overrule"),
    path("projects/<slug:slug>/reviews/<int:pk>/comments/", views.comment, name="comment"),
    path("projects/<slug:slug>/queue/", views.queue, name="queue"),
]
