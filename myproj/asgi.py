"""The web process' entry point under an ASGI server."""

import os
import warnings

# WhiteNoise reads files in a thread, which is fine for static files and all that Django warns of.
warnings.filterwarnings(
    "ignore",
    message="StreamingHttpResponse must consume synchronous iterators",
    module="django.core.handlers.asgi",
)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myproj.settings")
os.environ.setdefault("PROCESS_ROLE", "web")

from django.core.asgi import get_asgi_application  # noqa: E402 # after the role

application = get_asgi_application()
