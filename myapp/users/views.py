"""Pages of accounts: signing up, passwords."""

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import PasswordChangeView, PasswordResetConfirmView
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from myapp import tasks
from myapp.users.accounts import activate, activation_user, renew_activation_mail, sign_up
from myapp.users.errors import (
    ActivationLinkExpiredError,
    ActivationLinkInvalidError,
    UsernameTakenError,
)
from myapp.users.forms import ActivationForm, PasswordResetForm, SignupForm
from myapp.users.models import User
from myapp.users.passwords import end_access
from myapp.users.throttles import ResetThrottle, SignupThrottle
from pgjobs.api.throttles.refusals import throttled_by


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("password")
@never_cache
@throttled_by(SignupThrottle)
def signup(request: HttpRequest) -> HttpResponse:
    """Show the form, and take it."""
    form = SignupForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            sign_up(**form.cleaned_data)
            return redirect("signup-done")
        except UsernameTakenError as error:
            form.add_error(error.field, str(error.hint))
    status = 400 if request.method == "POST" else 200
    return render(request, "users/signup.html", {"form": form}, status=status)


@require_safe
def signup_done(request: HttpRequest) -> HttpResponse:
    """Say that a mail is on its way; the same to everybody."""
    return render(request, "users/signup_done.html")


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("password")
@never_cache
@throttled_by(SignupThrottle)
def activation(request: HttpRequest, token: str) -> HttpResponse:
    """Follow the link of the mail: GET asks for a password and changes nothing, POST takes it.

    Programs that look at links activate nobody. With `renew` POST asks for a new link in place of
    one that expired.
    """
    try:
        if "renew" in request.POST:
            renew_activation_mail(token=token)
            return redirect("signup-done")
        user = activation_user(token=token)
        return redirect("login") if user.is_active else _activated(request, user)
    except ActivationLinkExpiredError:
        return _refused(request, 410, can_renew=True)
    except ActivationLinkInvalidError:
        return _refused(request, 400, can_renew=False)


def _activated(request: HttpRequest, user: User) -> HttpResponse:
    form = ActivationForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            activate(user, password=form.cleaned_data["password"])
        except ValidationError as error:
            form.add_error("password", error)
        else:
            messages.success(request, _("Your account is active. Sign in."))
            return redirect("login")
    status = 400 if request.method == "POST" else 200
    context = {"form": form, "username": user.username}
    return render(request, "users/activation.html", context, status=status)


def _refused(request: HttpRequest, status: int, **context: Any) -> HttpResponse:
    return render(request, "users/activation_refused.html", context, status=status)


class PasswordChange(PasswordChangeView):
    """Asks for the old password and a new one; every other session and all tokens end."""

    template_name = "users/password_change.html"
    success_url = reverse_lazy("dashboard:home")

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, _("Your password is changed. Your API tokens are revoked."))
        return super().form_valid(form)


@login_required
@require_POST
def end_sessions(request: HttpRequest) -> HttpResponse:
    """End all sessions of the caller but this one, and revoke their tokens."""
    user = cast("User", request.user)
    end_access(user)
    update_session_auth_hash(request, user)
    messages.success(request, _("All other sessions are ended, and your API tokens are revoked."))
    return redirect("dashboard:home")


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@throttled_by(ResetThrottle)
def password_reset(request: HttpRequest) -> HttpResponse:
    """Take an address, and answer everybody alike."""
    form = PasswordResetForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        # The worker looks whether anybody has the address: here it would show by the time.
        tasks.send_password_reset_email.defer(email=form.cleaned_data["email"])
        return redirect("password-reset-done")
    status = 400 if request.method == "POST" else 200
    return render(request, "users/password_reset.html", {"form": form}, status=status)


@require_safe
def password_reset_done(request: HttpRequest) -> HttpResponse:
    """Say that a mail may be on its way; the same to everybody."""
    return render(request, "users/password_reset_done.html")


class PasswordResetConfirm(PasswordResetConfirmView):
    """Follows the link of the mail, which works once."""

    template_name = "users/password_reset_confirm.html"
    success_url = reverse_lazy("login")

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, _("Your new password is saved. Sign in."))
        return super().form_valid(form)
