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


def test_haste_does_not_leaf_past_the_last_page(browser: Any) -> None:  # noqa: F811
    found(browser, "#tab-store").click()
    until(lambda: "page 1 of 2" in found(browser, "#where").text)
    browser.execute_script("for (let i = 0; i < 3; i++) document.getElementById('after').click()")
    until(lambda: "page 2 of 2" in found(browser, "#where").text)
    assert len(browser.find_elements("css selector", "#pairs figure")) == 2


def test_answers_out_of_order_do_not_change_the_page(browser: Any) -> None:  # noqa: F811
    """The first page's answer is held back until the second's has come."""
    found(browser, "#tab-store").click()
    until(lambda: "page 1 of 2" in found(browser, "#where").text)
    browser.execute_script(
        """const real = window.fetch;
        window.fetch = (path, options) => path.includes('page=0')
            ? new Promise((done) => setTimeout(() => done(real(path, options)), 1500)) : real(path, options);
        window.late = 0; setTimeout(() => { window.late = 1; }, 3500);"""
    )
    found(browser, "#tab-images").click()
    found(browser, "#tab-store").click()  # asks for the first page again
    found(browser, "#after").click()
    until(lambda: browser.execute_script("return window.late"))
    assert "page 2 of 2" in found(browser, "#where").text


def test_a_damaged_picture_is_said(forgiven: Any, place: Path) -> None:  # noqa: F811
    images = place / "stores" / "mine" / "images"
    images.rename(place / "elsewhere")
    try:
        found(forgiven, "#tab-store").click()
        until(lambda: "missing; run the same `fusioncli caption` again" in alert(forgiven))
    finally:
        (place / "elsewhere").rename(images)


def test_a_benchmark_that_is_gone_is_said(forgiven: Any, place: Path) -> None:  # noqa: F811
    report = place / "bench" / "index.html"
    report.rename(place / "away.html")
    try:
        found(forgiven, "#tab-report").click()
        until(lambda: "no longer there" in alert(forgiven))
        assert not found(forgiven, "iframe").is_displayed()
    finally:
        (place / "away.html").rename(report)
