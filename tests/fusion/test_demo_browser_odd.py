"""The demo in a real headless Chromium when something goes wrong: files gone, haste, damage, long names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chromium import browser_marks
from demo_server import until
from test_demo_browser import (
    address,  # noqa: F401 # fixtures, as are the next
    browser,  # noqa: F401
    chrome,  # noqa: F401
    found,
    fuse_pair,
    place,  # noqa: F401
)
from test_page_browser import page  # noqa: F401

pytestmark = browser_marks


def alert(browser: Any) -> str:  # noqa: F811
    return str(found(browser, "[role=alert]").text)


@pytest.fixture
def forgiven(browser: Any) -> Any:  # noqa: F811
    """The page, whose console may say which requests failed."""
    yield browser
    browser.get_log("browser")


def test_a_download_that_is_gone_is_said_and_not_saved(forgiven: Any, place: Path) -> None:  # noqa: F811
    fuse_pair(forgiven, place)
    token = found(forgiven, "#over").get_attribute("src").rpartition("/")[2]
    before = set(forgiven.downloads.iterdir())
    for path in (place / "temporary").glob(f"fusioncli-demo-*/{token}*"):
        path.unlink()
    forgiven.execute_script("document.getElementById('download').click()")
    until(lambda: "no longer here; give it again" in alert(forgiven))
    assert set(forgiven.downloads.iterdir()) == before
