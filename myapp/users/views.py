"""Pages of signing up."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from myapp.jobs.throttles.throttling import throttled_by
from myapp.users.accounts import activate, renew_activation_mail, sign_up
from myapp.users.errors import (
    ActivationLinkExpiredError,
    ActivationLinkInvalidError,
    EmailTakenError,
    UsernameTakenError,
)
from myapp.users.forms import SignupForm
from myapp.users.throttles import SignupThrottle


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
        except (UsernameTakenError, EmailTakenError) as error:
            form.add_error(error.field, str(error.hint))
    status = 400 if request.method == "POST" else 200
    return render(request, "users/signup.html", {"form": form}, status=status)


@require_safe
def signup_done(request: HttpRequest) -> HttpResponse:
    """Say that a mail is on its way; the same to everybody."""
    return render(request, "users/signup_done.html")


@require_http_methods(["GET", "POST"])  # no HEAD: programs that look at links send it
@never_cache
@throttled_by(SignupThrottle)
def activation(request: HttpRequest, token: str) -> HttpResponse:
    """GET follows the link of the mail; POST asks for a new one in place of one that expired."""
    try:
        if request.method == "POST":
            renew_activation_mail(token=token)
            return redirect("signup-done")
        activate(token=token)
    except ActivationLinkExpiredError:
        return _refused(request, 410, can_renew=True)
    except ActivationLinkInvalidError:
        return _refused(request, 400, can_renew=False)
    return redirect("login")


def _refused(request: HttpRequest, status: int, **context: Any) -> HttpResponse:
    return render(request, "users/activation_refused.html", context, status=status)
