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

from django.core.asgi import get_asgi_application  # noqa: E402

django_application = get_asgi_application()

from pgjobs.api.http.bodylimit import BodyLimit  # noqa: E402
from pgjobs.api.live.streaming import Streaming  # noqa: E402 # after the registry is ready
from pgjobs.api.live.waiting import Waiting  # noqa: E402
from pgjobs.api.throttles.fairness import fair_share  # noqa: E402
from pgjobs.conf import conf  # noqa: E402

shared = fair_share(django_application)
bounded = BodyLimit(shared, max_bytes=conf.JOBS_REQUEST_MAX_BYTES)
application = Streaming(Waiting(bounded))
