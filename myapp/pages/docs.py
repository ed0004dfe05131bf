"""The page that shows the API description, with the extra `docs-ui` installed."""

from django.apps import apps
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny

SWAGGER_UI_FILES = "drf_spectacular_sidecar"


class SwaggerPage(SpectacularSwaggerSplitView):
    """Swagger UI, its script and styles in files of their own: the content policy stays strict."""

    url_name = "pgjobs:schema"
    template_name = "dashboard/docs.html"
    authentication_classes = ()
    permission_classes = (AllowAny,)


_swagger_page = SwaggerPage.as_view()


def api_docs(request: HttpRequest) -> HttpResponse:
    """Show the API description, or say what to install for it."""
    if not apps.is_installed(SWAGGER_UI_FILES):
        return render(request, "dashboard/docs_missing.html")
    response: HttpResponse = _swagger_page(request)
    return response
