"""Routes of accounts: signing up, its mail and its API, passwords."""

from django.urls import path

from myapp.users import apis, views
from pgjobs.api.throttles.login import limited_password_change

urlpatterns = [
    path("signup/", views.signup, name="signup"),
    path("signup/done/", views.signup_done, name="signup-done"),
    path("activate/<str:token>/", views.activation, name="activate"),
    path(
        "password/", limited_password_change(views.PasswordChange.as_view()), name="password-change"
    ),
    path("password/sessions/end/", views.end_sessions, name="sessions-end"),
    path("password/reset/", views.password_reset, name="password-reset"),
    path("password/reset/done/", views.password_reset_done, name="password-reset-done"),
    path(
        "password/reset/<str:uidb64>/<str:token>/",
        views.PasswordResetConfirm.as_view(),
        name="password-reset-confirm",
    ),
    path("api/signup/", apis.SignupApi.as_view(), name="api-signup"),
]
