"""Known answers of the comparison of arms: means, leads, and the share of a lead that another arm keeps."""

from __future__ import annotations

import pytest

from fusion.text_findings import EVERY, Finding, Lead, gain, kept, means, read_leads
from fusion.text_study import conditions

MODALITIES = ("visible", "infrared")


def test_a_pair_counts_once_however_many_severities_it_has() -> None:
    """Scores that differ between two pairs only: the spread is that of two values, not of six."""
    wanted = conditions(MODALITIES, ["low_light"])
    findings = [
        Finding(arm=name, key=key, condition=condition, scores={"Qabf": base + bonus})
        for name, bonus in (("told", 0.1), ("untold", 0.0))
        for key, base in (("a", 0.4), ("b", 0.8))
        for condition in wanted
    ]
    for title in (wanted[1].title, EVERY):
        summary = means(findings, "Qabf", "told", title)
        assert summary.count == 2
        assert (summary.mean, summary.low, summary.high) == pytest.approx((0.7, 0.5, 0.9))
        won = gain(findings, "Qabf", Lead("told", "untold"), title)
        assert (won.mean, won.low, won.high) == pytest.approx((0.1, 0.1, 0.1)), "the pairs differ, their gains do not"


def test_the_share_of_a_lead_that_another_keeps() -> None:
    """Leads of 0.1 and 0.3, of which the student has 0.1 and 0.2: three quarters of them; and no share of no lead."""
    scores = {"told": (0.5, 0.8), "untold": (0.4, 0.5), "student": (0.5, 0.7), "even": (0.3, 0.6)}
    findings = [
        Finding(arm=name, key=key, condition=conditions(MODALITIES)[1], scores={"Qabf": value})
        for name, values in scores.items()
        for key, value in zip("ab", values, strict=True)
    ]
    lead = Lead("told", "untold")
    share = kept(findings, "Qabf", lead, "student", EVERY)
    assert (share.mean, share.low, share.high) == pytest.approx((0.75, 2 / 3, 1))  # both pairs, b twice, a twice
    assert kept(findings, "Qabf", lead, "told", EVERY).mean == pytest.approx(1)
    assert kept(findings, "Qabf", Lead("even", "untold"), "student", EVERY).mean is None


def test_leads_as_they_are_asked_for() -> None:
    arms = ["told", "untold", "of told"]
    assert read_leads(["of told:untold"], arms) == [Lead("of told", "untold")]
    assert read_leads([], arms) == [Lead("told", "untold"), Lead("told", "of told")]
