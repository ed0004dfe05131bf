"""Routes of signing in and out."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from pgjobs.api.throttles.login import limited_login, limited_password_change

urlpatterns = [
    path(
        "login/",
        limited_login(LoginView.as_view(template_name="access/login.html")),
        name="login",
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
    # Before the admin's own, which are the same without limits.
    path("admin/login/", limited_login(admin.site.login)),
    path(
        "admin/password_change/",
        limited_password_change(admin.site.admin_view(admin.site.password_change)),
    ),
]
