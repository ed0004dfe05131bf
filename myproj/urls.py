"""Every route of the site."""

from django.contrib import admin
from django.urls import include, path

handler400 = "myapp.pages.errorpages.bad_request"
handler403 = "myapp.pages.errorpages.permission_denied"
handler404 = "myapp.pages.errorpages.not_found"
handler500 = "myapp.pages.errorpages.server_error"

urlpatterns = [
    path("", include("myapp.pages.urls")),
    path("", include("myapp.access.urls")),
    path("", include("pgjobs.observe.urls")),
    path("api/", include("pgjobs.api.urls")),
    path("admin/", admin.site.urls),
    # The example begins.
    path("api/users/", include("myapp.users.urls")),
    path("", include("myapp.users.signup_urls")),
    # The example ends.
]
