"""What a session shows of a project that names a demo job: the job, a login, an API token."""

from pgjobs.dev import project
from pgjobs.dev.brief import Report
from pgjobs.dev.client import ApiClient, wait_until_ready
from pgjobs.dev.demo import Demo
from pgjobs.dev.project import DemoJob
from pgjobs.dev.summary import how_to_go_on
from pgjobs.dev.superuser import new_token, session_superuser

NOT_OURS = "(the password you set)"


def show(job: DemoJob, report: Report, *, port: int) -> None:
    """Have web started, send the job, have the worker started, follow the job, say how to go on.

    Raises:
        DevError: the superuser is missing, web does not become ready, or the job fails.
    """
    superuser = session_superuser(project.root() / "var" / "demo-password")
    token = new_token(superuser.user)
    report.line(f"Starting web on port {port}, then worker.")
    report.ask("start", "web")
    wait_until_ready(port, path=project.ready_path())
    demo = Demo(job, ApiClient(port=port, token=token), report)
    task = demo.run(start_worker=lambda: report.ask("start", "worker"))
    login = f"{superuser.user.get_username()} / {superuser.password or NOT_OURS}"
    report.block([*how_to_go_on(port=port, login=login, token=token, job=job, task=task)])
