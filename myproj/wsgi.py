"""The web process' entry point under a WSGI server."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myproj.settings")
os.environ.setdefault("PROCESS_ROLE", "web")

from django.core.wsgi import get_wsgi_application  # the role is read by settings

django_application = get_wsgi_application()

from pgjobs.api.http.bodylimit import ContentTypeCheck  # noqa: E402 # after the registry is ready

application = ContentTypeCheck(django_application)
