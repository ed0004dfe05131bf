"""A real EventSource in a browser, with the session's cookie."""

from collections.abc import Callable
from typing import Any

import advisory_locks
import job_samples
import pytest
from playwright.sync_api import Browser
from programs import Program, eventually

from pgjobs.defer.bridge import owned_by

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

FOLLOW = """
(url) => {
  window.seen = [];
  const source = new EventSource(url);
  for (const kind of ["status", "progress", "result"]) {
    source.addEventListener(kind, (event) => {
      const data = JSON.parse(event.data);
      window.seen.push([kind, data.status, data.progress]);
    });
  }
  // The stream ends with the result, and the 204 to the next try ends the source.
  source.addEventListener("error", () => { window.state = source.readyState; });
}
"""


def test_a_browser_follows_a_task_and_stops_by_itself(
    browser: Browser, web_url: str, admin: Any, start_worker: Callable[..., Program]
) -> None:
    advisory_locks.hold()
    with owned_by(admin.pk):
        task_id = job_samples.hold.defer(key=advisory_locks.KEY).task_id
    context = browser.new_context(base_url=web_url)
    page = context.new_page()
    page.goto("/login/")
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill("pw-of-root")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")

    page.evaluate(FOLLOW, f"/api/tasks/{task_id}/events/")
    eventually(lambda: page.evaluate("window.seen.length"))
    start_worker("job_samples.app")
    eventually(lambda: [event[2] for event in page.evaluate("window.seen")][-1:] == [40])
    advisory_locks.let_go()
    eventually(lambda: page.evaluate("window.state") == 2)  # closed

    seen = page.evaluate("window.seen")
    context.close()
    assert seen[0] == ["status", "PENDING", 0]
    assert seen[-2][1:] == ["PROCESSING", 40]
    assert seen[-1] == ["result", "DONE", 100]
    assert [kind for kind, _, _ in seen].count("result") == 1
