"""The demo in a real headless Chromium when something goes wrong: files gone, haste, damage, long names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chromium import browser_marks
from demo_server import until
from test_demo import film
from test_demo_browser import (
    address,  # noqa: F401 # fixtures, as are the next
    browser,  # noqa: F401
    chrome,  # noqa: F401
    found,
    fuse_pair,
    fused_shown,
    give,
    pair,
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
    browser.get("about:blank")  # or a request that is still under way would fail after the console was emptied
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


def test_a_server_that_fails_is_not_called_absent(browser: Any) -> None:  # noqa: F811
    from selenium.webdriver.support.select import Select

    browser.execute_script("window.fetch = async () => new Response('Internal Server Error', { status: 500 })")
    Select(found(browser, "#sample")).select_by_index(1)
    until(lambda: "the server failed at that (500)" in alert(browser))


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


def test_videos_of_two_sizes_are_brought_together_on_the_page(forgiven: Any, place: Path) -> None:  # noqa: F811
    pytest.importorskip("av", reason="videos need PyAV: pip install 'fusioncli[video]'")
    found(forgiven, "#tab-video").click()
    assert "first 20 seconds" in found(forgiven, "#video").text
    for side, picture, step in zip(("first", "second"), pair(place), (1, 2), strict=True):
        pixels = np.asarray(Image.open(picture).convert("RGB"))[::step, ::step]
        film(place / f"{side}.mp4", [pixels] * 3)
        found(forgiven, f"#video .drop[data-side={side}] input").send_keys(str(place / f"{side}.mp4"))
    until(lambda: found(forgiven, "#video-fuse").is_enabled())
    found(forgiven, "#video-fuse").click()
    until(lambda: "“scale to one size” scales the infrared image to it, “align” by affine" in alert(forgiven))
    found(forgiven, "#video-resize").click()
    found(forgiven, "#video-fuse").click()
    until(lambda: found(forgiven, "#video-result").is_displayed())
    assert "0.3 seconds" in found(forgiven, "#video-facts").text


def test_long_names_fit_a_phone(browser: Any, place: Path) -> None:  # noqa: F811
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    wide = "return document.documentElement.scrollWidth - innerWidth"
    try:
        long = place / f"{'a_very_long_name_without_a_break' * 3}.png"
        shutil.copy(pair(place)[0], long)
        give(browser, "first", long)
        give(browser, "second", pair(place)[1])
        until(lambda: fused_shown(browser))
        grow = """const shown = [...document.querySelectorAll('[role=tabpanel]')].find((panel) => !panel.hidden);
            for (const one of shown.querySelectorAll('select, figcaption strong')) {
                const into = one.tagName === 'SELECT' ? one.appendChild(document.createElement('option')) : one;
                into.textContent = arguments[0].repeat(3); into.selected = true; }"""
        for tab in ("images", "video", "store", "report"):
            found(browser, f"#tab-{tab}").click()
            if tab == "store":
                until(lambda: browser.find_elements("css selector", "#pairs figure"))
            browser.execute_script(grow, long.stem)
            assert browser.execute_script(wide) <= 0
            if tab == "images":
                left, right = (found(browser, f".stage .{side}").rect for side in ("left", "right"))
                assert left["x"] + left["width"] <= right["x"]
            save(browser, f"long-{tab}")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def save(browser: Any, name: str) -> None:  # noqa: F811
    folder = os.environ.get("FUSIONCLI_TEST_PICTURES")
    if folder:
        browser.save_screenshot(f"{folder}/demo-{name}.png")
