"""Every route of the site."""

from django.contrib import admin
from django.urls import include, path

handler400 = "myapp.jobs.rest.errorpages.bad_request"
handler403 = "myapp.jobs.rest.errorpages.permission_denied"
handler404 = "myapp.jobs.rest.errorpages.not_found"
handler500 = "myapp.jobs.rest.errorpages.server_error"

urlpatterns = [
    path("", include("myapp.jobs.dashboard.urls")),
    path("", include("myapp.jobs.access.urls")),
    path("", include("myapp.jobs.observability.urls")),
    path("", include("myapp.jobs.rest.urls")),
    path("api/tasks/", include("myapp.jobs.tracking.urls")),
    path("api/tokens/", include("myapp.jobs.tokens.urls")),
    path("api/users/", include("myapp.users.urls")),
    path("", include("myapp.users.signup_urls")),
    path("admin/", admin.site.urls),
]
