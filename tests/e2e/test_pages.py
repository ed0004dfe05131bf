"""Every page in a real browser: clean console, no overflow, in light and dark, wide and narrow."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api_schema import ApiDescription
from django.urls import reverse
from playwright.sync_api import Browser, Page, ViewportSize
from routes import table

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

SIZES: dict[str, ViewportSize] = {
    "wide": {"width": 1280, "height": 800},
    "narrow": {"width": 375, "height": 740},
}

# What routes.txt says that everybody may look at, but for what is for programs.
FOR_PROGRAMS = ("api/", "livez", "readyz")
PAGES = {
    route.strip("/").replace("/", "-") or "home": f"/{route}"
    for (method, route), expected in table().items()
    if method == "GET" and expected.statuses[0] == 200
    if "<" not in route and not route.startswith(FOR_PROGRAMS)
}


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained of: errors, refusals of the content policy, failed loads."""
    return []


@pytest.fixture
def open_page(
    browser: Browser, web_url: str, complaints: list[str]
) -> Iterator[Callable[..., Page]]:
    contexts = []

    def open_one(path: str, *, scheme: str = "light", size: str = "wide") -> Page:
        context = browser.new_context(
            base_url=web_url,
            viewport=SIZES[size],
            color_scheme="dark" if scheme == "dark" else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        page.on(
            "request", lambda r: None if r.url.startswith(web_url) else complaints.append(r.url)
        )
        page.goto(path)
        return page

    yield open_one
    for context in contexts:
        context.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "path"), [*PAGES.items(), ("missing", "/x")])
def test_a_page_is_clean_and_fits(  # one page, one look: what a person would check
    open_page: Callable[..., Page],
    complaints: list[str],
    screenshot: Any,
    name: str,
    path: str,
    scheme: str,
    size: str,
) -> None:
    page = open_page(path, scheme=scheme, size=size)

    screenshot(page, f"{name}-{scheme}-{size}")
    # A page that is not there is an error in the console by itself.
    assert [text for text in complaints if "404 (Not Found)" not in text] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("h1").count() == 1
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(18, 23, 29)" if scheme == "dark" else "rgb(247, 248, 250)")


def test_signing_in_and_out(
    open_page: Callable[..., Page], complaints: list[str], admin: Any, screenshot: Any
) -> None:
    page = open_page("/")
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert "correct username and password" in page.get_by_role("alert").inner_text()
    screenshot(page, "login-refused")

    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill("pw-of-root")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")
    assert page.get_by_text("root").count() == 1
    screenshot(page, "home-signed-in")

    page.goto("/api/tasks/")
    assert '"results":[]' in page.content()
    page.goto("/")
    page.get_by_role("button", name="Sign out").click()
    assert page.get_by_role("link", name="Sign in").is_visible()
    assert complaints == []


def test_the_admin_works_under_the_same_policy(
    open_page: Callable[..., Page], complaints: list[str], admin: Any, screenshot: Any
) -> None:
    users = reverse(f"admin:{admin._meta.app_label}_{admin._meta.model_name}_changelist")
    page = open_page(f"/login/?next={users}")
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill("pw-of-root")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**{users}")

    page.get_by_role("link", name="root", exact=True).click()
    assert page.get_by_label("Email address").input_value() == "root@example.org"
    screenshot(page, "admin-user")
    assert complaints == []


def test_the_home_page_links_to_pages_that_are_there(
    open_page: Callable[..., Page], web_url: str
) -> None:
    page = open_page("/")

    paths = [link.get_attribute("href") for link in page.locator("main a").all()]
    assert "/admin/" in paths
    for path in paths:
        assert page.request.get(f"{web_url}{path}").status in (200, 401), path


def test_the_api_page_shows_every_operation(
    open_page: Callable[..., Page], complaints: list[str], screenshot: Any
) -> None:
    page = open_page("/api/docs/")

    page.get_by_text("/api/tasks/{task_id}/status/").first.wait_for()
    assert page.locator(".opblock").count() == len(list(ApiDescription().operations()))
    status = page.locator("#operations-tasks-get_task_status")
    status.locator(".opblock-summary-control").click()
    status.get_by_text("create_user").first.wait_for()
    screenshot(page, "api-docs")
    assert complaints == []


def test_the_api_page_tries_a_call_out(
    open_page: Callable[..., Page], complaints: list[str], admin: Any, token_of: Any
) -> None:
    page = open_page("/api/docs/")
    page.get_by_role("button", name="Authorize").click()
    token = page.locator(".auth-container", has_text="token (apiKey)")
    token.get_by_role("textbox").fill(f"Token {token_of(admin)}")
    token.get_by_role("button", name="Apply credentials").click()
    token.get_by_role("button", name="Close").click()

    listing = page.locator("#operations-tasks-list_tasks")
    listing.locator(".opblock-summary-control").click()
    listing.get_by_role("button", name="Try it out").click()
    listing.get_by_role("button", name="Execute").click()
    answer = listing.locator(".live-responses-table .response-col_status").last
    answer.wait_for()
    assert "200" in answer.inner_text()
    assert complaints == []
