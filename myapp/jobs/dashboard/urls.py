"""Routes of the pages."""

from django.urls import path

from myapp.jobs.dashboard import views

app_name = "dashboard"
urlpatterns = [
    path("", views.home, name="home"),
    path("favicon.ico", views.favicon),
]
