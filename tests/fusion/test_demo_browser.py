"""The demo in a real headless Chromium, served by the command itself: upload, slide, download, refusals, keyboard."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chromium import browser_marks, open_chromium
from demo_server import furnish, served, until
from fusion import Fuser
from test_demo import film
from test_page_browser import page  # noqa: F401 # a fixture: a real benchmark's page

pytestmark = browser_marks


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, page: Path) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("demo")
    furnish(folder, page)
    return folder


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    with served(place) as address:
        yield address


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    downloads = tmp_path_factory.mktemp("downloads")
    driver = open_chromium(tmp_path_factory.mktemp("profile"), downloads=downloads, performance="ALL")
    driver.downloads = downloads
    yield driver
    driver.quit()


@pytest.fixture
def browser(chrome: Any, address: str) -> Iterator[Any]:
    """The page, freshly opened; afterwards its console must be silent and nothing else may have been asked for."""
    chrome.get(address)
    until(lambda: chrome.execute_script("return document.body.dataset.ready") == "yes")
    yield chrome
    wrong = [entry for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert wrong == []
    asked = [entry["message"] for entry in chrome.get_log("performance") if "requestWillBeSent" in entry["message"]]
    outside = [message for message in asked if '"url":"http' in message and f'"url":"{address}' not in message]
    assert outside == []


def found(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def give(browser: Any, side: str, path: Path) -> None:
    found(browser, f"#images .drop[data-side={side}] input").send_keys(str(path))


def fused_shown(browser: Any) -> bool:
    script = """const [under, over] = [document.getElementById('under'), document.getElementById('over')];
        return !document.getElementById('result').hidden && under.complete && over.complete && over.naturalWidth > 0
            && document.getElementById('status').textContent === ''"""
    return bool(browser.execute_script(script))


def pair(place: Path) -> tuple[Path, Path]:
    first = sorted((place / "pairs" / "vi").iterdir())[0]
    return first, place / "pairs" / "ir" / first.name


def fuse_pair(browser: Any, place: Path) -> None:
    first, second = pair(place)
    give(browser, "first", first)
    give(browser, "second", second)
    until(lambda: fused_shown(browser))


def test_two_files_are_fused_slid_and_downloaded(browser: Any, place: Path) -> None:
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.select import Select

    fuse_pair(browser, place)
    facts = found(browser, "#facts").text
    assert "128 × 96" in facts and " ms" in facts and "Qabf" in facts
    slider = found(browser, "#wipe")
    at = "return getComputedStyle(document.getElementById('over')).clipPath"
    assert "50%" in browser.execute_script(at)
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "52%" in browser.execute_script(at)
    assert "52 % source" in slider.get_attribute("aria-valuetext")
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).move_to_element_with_offset(slider, -slider.size["width"] // 4, 0).click().perform()
    assert 15 < int(slider.get_attribute("value")) < 35
    Select(found(browser, "#format")).select_by_value(".tiff")
    browser.execute_script("arguments[0].scrollIntoView()", found(browser, "#download"))
    found(browser, "#download").click()
    first, second = pair(place)
    file = browser.downloads / f"{first.stem}-fused.tiff"
    until(file.is_file)
    expected = Fuser.from_pretrained("edge")(Image.open(first), Image.open(second))
    assert np.abs(np.asarray(Image.open(file)).astype(int) - np.asarray(expected).astype(int)).max() <= 1


def test_files_may_be_dropped(browser: Any) -> None:
    drop = """const [side, token, done] = arguments;
        fetch(`picture/${token}`).then((answer) => answer.blob()).then((blob) => {
          const given = new DataTransfer();
          given.items.add(new File([blob], `${side}.png`, { type: 'image/png' }));
          const target = document.querySelector(`#images .drop[data-side=${side}]`);
          for (const name of ['dragover', 'drop'])
            target.dispatchEvent(new DragEvent(name, { dataTransfer: given, bubbles: true, cancelable: true }));
          done(true);
        })"""
    take = "const [done] = arguments; fetch('api/sample/0', {method: 'POST'}).then((a) => a.json()).then(done)"
    items = browser.execute_async_script(take)
    for side, item in zip(("first", "second"), items, strict=True):
        browser.execute_async_script(drop, side, item["token"])
    until(lambda: fused_shown(browser))
    assert "second.png" in found(browser, "#images .drop[data-side=second] .hint").text


def test_a_sample_and_other_choices(browser: Any) -> None:
    from selenium.webdriver.support.select import Select

    Select(found(browser, "#sample")).select_by_index(1)
    until(lambda: fused_shown(browser))
    before = found(browser, "#over").get_attribute("src")
    Select(found(browser, "#weights")).select_by_value("nano")
    until(lambda: found(browser, "#over").get_attribute("src") != before and fused_shown(browser))
    before = found(browser, "#over").get_attribute("src")
    Select(found(browser, "#engine")).select_by_value("torchscript")
    until(lambda: found(browser, "#over").get_attribute("src") != before and fused_shown(browser))
    before = found(browser, "#over").get_attribute("src")
    Select(found(browser, "#tile")).select_by_value("256")
    until(lambda: found(browser, "#over").get_attribute("src") != before and fused_shown(browser))
    under = found(browser, "#under").get_attribute("src")
    Select(found(browser, "#source")).select_by_value("1")
    assert found(browser, "#under").get_attribute("src") != under


def test_a_wrong_file_and_a_large_one_are_refused_in_words(browser: Any, place: Path) -> None:
    give(browser, "first", place / "notes.png")
    alert = found(browser, "[role=alert]")
    until(alert.is_displayed)
    assert "notes.png: not an image" in alert.text
    give(browser, "first", place / "large.png")
    until(lambda: "large.png: 2 MiB; at most 1 MiB" in alert.text)
    assert not found(browser, "#fuse").is_enabled()
    first, second = pair(place)
    give(browser, "first", second)  # swapped
    give(browser, "second", first)
    until(lambda: "a colour image" in alert.text)
    fuse_pair(browser, place)  # and none of it was in the way
    assert not alert.is_displayed()


def test_all_of_it_by_keyboard(browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def focused() -> Any:
        return browser.switch_to.active_element

    def press(*keys: str) -> None:
        ActionChains(browser).send_keys(*keys).perform()

    def tab_to(name: str) -> None:
        for _ in range(30):
            press(Keys.TAB)
            if focused().get_attribute("id") == name:
                return
        raise AssertionError(f"Tab does not reach {name}")

    browser.execute_script("document.activeElement.blur()")
    tab_to("tab-images")
    tab_to("sample")
    press(Keys.ARROW_DOWN)
    until(lambda: fused_shown(browser))
    before = found(browser, "#over").get_attribute("src")
    tab_to("fuse")
    press(Keys.ENTER)
    until(lambda: found(browser, "#over").get_attribute("src") != before and fused_shown(browser))
    tab_to("wipe")
    press(Keys.ARROW_LEFT)
    assert found(browser, "#wipe").get_attribute("value") == "49"
    tab_to("download")
    browser.execute_script("document.getElementById('tab-images').focus()")
    visible = "return [...document.querySelectorAll('[role=tabpanel]')].filter(p => !p.hidden).map(p => p.id)"
    press(Keys.ARROW_LEFT)
    assert browser.execute_script(visible) == ["report"]
    press(Keys.ARROW_LEFT)
    assert browser.execute_script(visible) == ["store"]
    press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.execute_script(visible) == ["images"]


def test_two_videos_are_fused_and_played(browser: Any, place: Path) -> None:
    pytest.importorskip("av", reason="videos need PyAV: pip install 'fusioncli[video]'")
    first, second = pair(place)
    for side, picture in (("first", first), ("second", second)):
        pixels = np.asarray(Image.open(picture).convert("RGB"))
        film(place / f"{side}.mp4", [np.roll(pixels, step, axis=1) for step in range(6)])
    found(browser, "#tab-video").click()
    for side in ("first", "second"):
        found(browser, f"#video .drop[data-side={side}] input").send_keys(str(place / f"{side}.mp4"))
        until(lambda side=side: "mp4" in found(browser, f"#video .drop[data-side={side}] .hint").text)  # type: ignore[misc]
    until(lambda: found(browser, "#video-fuse").is_enabled())
    found(browser, "#video-fuse").click()
    until(lambda: found(browser, "#video-result").is_displayed())
    until(lambda: browser.execute_script("return document.querySelector('video').readyState") >= 2)
    assert browser.execute_script("return document.querySelector('video').videoWidth") == 128
    assert "frames 6" in found(browser, "#video-facts").text
    found(browser, "#video .drop[data-side=first] input").send_keys(str(place / "notes.png"))
    until(lambda: "not an MP4" in found(browser, "[role=alert]").text)


def test_a_store_is_leafed_through(browser: Any) -> None:
    from selenium.webdriver.support.select import Select

    found(browser, "#tab-store").click()
    figures = "return document.querySelectorAll('#pairs figure').length"
    until(lambda: browser.execute_script(figures) == 12)
    assert "14 pairs, page 1 of 2" in found(browser, "#where").text
    loaded = "return [...document.querySelectorAll('#pairs img')].slice(0, 2).every(i => i.complete && i.naturalWidth)"
    until(lambda: browser.execute_script(loaded))
    found(browser, "#after").click()
    until(lambda: browser.execute_script(figures) == 2)
    options = [option.get_attribute("value") for option in Select(found(browser, "#event")).options]
    Select(found(browser, "#event")).select_by_value(options[1])
    until(lambda: "page 1" in found(browser, "#where").text and found(browser, "#event").get_attribute("value"))
    shown = [label.text for label in browser.find_elements("css selector", "#pairs figure:first-child .event")]
    assert any(options[1].replace("_", " ") in label for label in shown)
    assert found(browser, "#pairs figure:first-child figcaption p").text


def test_a_benchmark_is_shown_and_works(browser: Any) -> None:
    found(browser, "#tab-report").click()
    browser.switch_to.frame(found(browser, "iframe"))
    shown = "return [...document.querySelectorAll('.stage img')].some(image => image.complete && image.naturalWidth)"
    until(lambda: browser.execute_script(shown))
    assert found(browser, "h1").text == "Benchmark"
    browser.execute_script("document.querySelector('[data-mode=difference]').click()")
    drawn = """const c = document.querySelector('.stage canvas');
        if (c.hidden || !c.width) return 0;
        return Math.max(...c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((_, i) => i % 4 < 3))"""
    until(lambda: browser.execute_script(drawn) > 0)
    browser.switch_to.default_content()


@pytest.mark.parametrize("width", [360, 800])
def test_a_narrow_screen_needs_no_sideways_scrolling(browser: Any, place: Path, width: int) -> None:
    metrics = {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        fuse_pair(browser, place)
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        picture = os.environ.get("FUSIONCLI_TEST_PICTURES")
        if picture:
            browser.save_screenshot(f"{picture}/demo-{width}.png")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
