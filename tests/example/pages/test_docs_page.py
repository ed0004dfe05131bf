"""The page of the API description, with its extra and without."""

import pytest
from django.test import Client

from myapp.pages import docs


def test_without_the_extra_the_page_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "SWAGGER_UI_FILES", "not_installed")

    page = Client().get("/api/docs/")

    assert page.status_code == 200
    assert "docs-ui" in page.content.decode()
