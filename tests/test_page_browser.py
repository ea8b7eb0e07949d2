"""The benchmark's page in a real headless Chromium: open, sort, slide, look at every mode, on a phone, in the dark."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromium import browser_marks, open_chromium
from fusion.baselines import BASELINES
from fusion.bench_extras import section
from fusion.methods import BaselineMethod
from fusion.report.gallery import Shot
from fusion.report.page import write_page
from fusion.results import BenchResult, DatasetResult, ExtraTable
from pipeline.images import Picture

pytestmark = browser_marks
KEYS = ("day-1", "night-2", "night-3")
METRICS = ("VIF", "Qabf", "Nabf")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every baseline on three drawn pairs."""
    rng = np.random.default_rng(0)
    methods = [BaselineMethod(baseline) for baseline in BASELINES.values()]
    names = [method.card.name for method in methods]
    shots = []
    for key in KEYS:
        visible = Picture(pixels=np.kron(rng.integers(0, 255, (12, 16, 3)), np.ones((10, 10, 1))).astype(np.uint8))
        infrared = Picture(pixels=np.kron(rng.integers(0, 255, (6, 8)), np.ones((20, 20))).astype(np.uint8))
        fused = {method.card.name: method.fuse(None, visible, infrared) for method in methods}
        shots.append(Shot(dataset="drawn", key=key, why=("drawn",), pictures=fused, notes=("A note.",)))
    dataset = DatasetResult(
        name="drawn",
        title="Drawn pairs",
        task="ivf",
        split="test",
        modalities=("visible", "infrared"),
        convention="standard",
        digest="0",
        keys=KEYS,
        metrics=METRICS,
        better={"VIF": "higher", "Qabf": "higher", "Nabf": "lower"},
        methods={method.card.name: replace(method.card, cost=method.cost()) for method in methods},
        values={name: {metric: rng.uniform(0.1, 1, 3).tolist() for metric in METRICS} for name in names},
    )
    path = tmp_path_factory.mktemp("page") / "index.html"
    ceiling = ExtraTable(
        anchor="ceiling-drawn",
        title="A ceiling",
        label="Ceiling",
        about="Drawn.",
        header=("method", "VIF + Qabf", "share of the way"),
        rows=(("mean", "0.9", "-20%"), ("optimised pixels", "10.5", "100%"), ("maximum", "1.2", "0%")),
    )
    result = BenchResult(datasets=(dataset,), machine={"cores": "2"}, command="fusioncli bench", tables=(ceiling,))
    write_page(path, result, shots, last=[section(ceiling)])
    return path


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = open_chromium(tmp_path_factory.mktemp("profile"), "--force-prefers-reduced-motion")
    yield driver
    driver.quit()


@pytest.fixture
def browser(chrome: Any, page: Path) -> Iterator[Any]:
    """The page, freshly opened; afterwards its console must be silent."""
    chrome.set_window_size(1280, 1000)
    chrome.get(page.as_uri())
    yield chrome
    wrong = [entry for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert wrong == []


def until(condition: Callable[[], object], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not get there in time"
        time.sleep(0.05)


def column(browser: Any, index: int) -> list[str]:
    script = (
        "return [...document.querySelectorAll('#scores-drawn tbody tr')].map(r => r.cells[arguments[0]].dataset.value)"
    )
    return list(browser.execute_script(script, index))


def test_headings_sort_by_mouse_and_keyboard(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    heading = "table.sortable thead th:nth-child({}) button"
    browser.find_element("css selector", heading.format(2)).click()
    values = [float(value) for value in column(browser, 1)]
    assert values == sorted(values, reverse=True)
    browser.find_element("css selector", heading.format(2)).send_keys(Keys.ENTER)
    assert [float(value) for value in column(browser, 1)] == sorted(values)
    browser.find_element("css selector", heading.format(4)).click()  # Nabf: the lower the better, so best first
    values = [float(value) for value in column(browser, 3)]
    assert values == sorted(values)
    assert browser.find_element("css selector", "th[aria-sort]").get_attribute("aria-sort") == "ascending"


def test_the_slider_wipes_by_keyboard_and_mouse(browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    slider = browser.find_element("css selector", ".stage input")
    at = "return getComputedStyle(document.querySelector('.stage .over')).clipPath"
    assert "50%" in browser.execute_script(at)
    browser.execute_script("arguments[0].focus()", slider)
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "52%" in browser.execute_script(at)
    ActionChains(browser).move_to_element_with_offset(slider, -slider.size["width"] // 4, 0).click().perform()
    assert 15 < int(slider.get_attribute("value")) < 35
    assert "visible" in slider.get_attribute("aria-valuetext")


def test_any_two_methods_in_every_mode(browser: Any) -> None:
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("id", "left")).select_by_value("mean")
    Select(browser.find_element("id", "right")).select_by_value("guided")
    shown = "return [...document.querySelectorAll('.stage img')].every(i => i.complete && i.naturalWidth === 160)"
    until(lambda: browser.execute_script(shown))
    before = browser.find_element("css selector", ".stage .over").get_attribute("src")
    browser.find_element("css selector", "[data-mode=edges]").click()
    until(lambda: browser.find_element("css selector", ".stage .over").get_attribute("src") != before)
    browser.find_element("css selector", "[data-mode=difference]").click()
    bright = """const c = document.querySelector('.stage canvas');
        if (c.hidden || !c.width) return 0;
        return Math.max(...c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((_, i) => i % 4 < 3))"""
    until(lambda: browser.execute_script(bright) > 20)
    Select(browser.find_element("id", "right")).select_by_value("mean")
    until(lambda: browser.execute_script(bright) == 0)  # a method less itself is black


def test_pairs_by_strip_buttons_and_keys(browser: Any) -> None:
    def title() -> str:
        return str(browser.find_element("css selector", ".about h3").text)

    first = title()
    browser.find_element("id", "next").click()
    assert title() != first
    assert browser.find_element("id", "position").text == "2 of 3"
    browser.find_element("css selector", ".strip button:nth-child(3)").click()
    assert title() == KEYS[2]
    browser.find_element("css selector", ".stage input").send_keys("n")
    assert title() == first
    assert len(browser.find_elements("css selector", ".crops canvas")) == len(BASELINES)
    browser.find_element("css selector", "#crop-buttons button:nth-child(2)").click()
    assert (
        browser.execute_script("return [...document.querySelectorAll('.stage .box')].filter(b => !b.hidden).length")
        == 1
    )


def test_worst_cases_open_in_the_gallery(browser: Any) -> None:
    button = browser.find_element("css selector", "[data-goto]")
    browser.execute_script("arguments[0].scrollIntoView()", button)
    until(lambda: browser.execute_script("return document.querySelector('[data-goto] img').naturalWidth") > 0)
    browser.execute_script("arguments[0].click()", button)
    assert browser.find_element("css selector", ".about h3").text == button.get_attribute("data-goto")


def test_two_methods_compared_and_turned_round(browser: Any) -> None:
    from selenium.webdriver.support.select import Select

    left, right = (Select(found) for found in browser.find_elements("css selector", "[data-versus] select"))

    def first_row() -> list[str]:
        return [cell.text for cell in browser.find_elements("css selector", "[data-versus] tbody tr:first-child td")]

    left.select_by_value("mean")
    right.select_by_value("wavelet")
    straight = first_row()
    left.select_by_value("wavelet")
    right.select_by_value("mean")
    turned = first_row()
    assert (straight[1], straight[2]) == (turned[2], turned[1])
    assert float(straight[4]) == -float(turned[4])
    assert straight[5] == turned[5]


def test_plots_change_with_the_metric(browser: Any) -> None:
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("css selector", "[data-plots]")).select_by_visible_text("Qabf")
    visible = browser.execute_script(
        "return [...document.querySelectorAll('[data-metric]')].filter(f => !f.hidden).map(f => f.dataset.metric)"
    )
    assert visible == ["Qabf"]


@pytest.mark.parametrize("width", [360, 800])
def test_a_narrow_screen_scrolls_only_its_tables(browser: Any, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        browser.refresh()
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert browser.execute_script("return document.querySelector('.stage').getBoundingClientRect().width > 250")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_figures_stay_inside_their_cells(browser: Any) -> None:
    spills = """return [...document.querySelectorAll('table.sortable td')].filter(cell => [...cell.children].some(part => {
        const [a, b] = [part.getBoundingClientRect(), cell.getBoundingClientRect()];
        return a.width && (a.right > b.right + 1 || a.left < b.left - 1); })).length"""
    assert browser.execute_script("return document.querySelectorAll('table.sortable td small').length") > 10
    assert browser.execute_script(spills) == 0


def test_extra_tables_sort_by_their_numbers(browser: Any) -> None:
    button = "#ceiling-drawn th:nth-child(2) button"
    browser.execute_script("document.querySelector(arguments[0]).click()", button)
    cells = "return [...document.querySelectorAll('#ceiling-drawn tbody tr')].map(row => row.cells[0].textContent)"
    assert browser.execute_script(cells) == ["optimised pixels", "maximum", "mean"]


def test_dark_mode_is_dark_and_readable(browser: Any) -> None:
    def luminance(colour: str) -> float:
        numbers = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in numbers]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for scheme, dark in (("dark", True), ("light", False)):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        look = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        paper, ink = (luminance(colour) for colour in browser.execute_script(look))
        assert (paper < 0.1) is dark
        assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) > 7
