"""The pages."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from myapp.pages.selectors import home_summary


def favicon(request: HttpRequest) -> HttpResponse:
    """Lead browsers to the icon from pages that name none, such as JSON and the admin."""
    return redirect(static("dashboard/icon.svg"))


@require_safe
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """Link on; to those who are signed in also say what is running, in numbers."""
    summary = home_summary() if request.user.is_authenticated else None
    return render(request, "dashboard/home.html", {"summary": summary})
