"""The admin of jobs: ours instead of the library's."""

from django.contrib import admin
from procrastinate.contrib.django.models import ProcrastinateJob

# Its page shows every argument, sensitive ones too, and whoever may view may also retry a job that
# runs, which makes a second copy.
admin.site.unregister(ProcrastinateJob)
