"""Prints the calibration table of docs/metrics.md: ``python tests/benchmarks/calibrate_metrics.py``.

For every toolkit and metric the largest relative difference between the toolkit's value and ours over six real pairs
(needs the pairs: FUSIONCLI_DATA, else ../shared/data).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fusion.score import score

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "fusion"))

from test_metrics_calibration import CALIBRATION, CONVENTION_OF, triple  # noqa: E402

ORDER = ("EN", "SF", "SD", "AG", "MI", "NMI", "CC", "SCD", "MSE", "PSNR", "VIF", "Qabf", "Nabf", "SSIM", "MS_SSIM")


def main() -> None:
    root = Path(os.environ.get("FUSIONCLI_DATA", TESTS.parent.parent / "shared" / "data"))
    worst: dict[tuple[str, str], float] = {}
    for case in CALIBRATION["cases"]:
        images = triple(case, root)
        for toolkit, convention in CONVENTION_OF.items():
            expected = case["values"][toolkit]
            found = score(*images, convention=convention, names=[name.replace("_", "-") for name in expected])
            for name, value in expected.items():
                ours = found[name.replace("_", "-")]
                difference = float("inf") if ours is None else abs(ours / value - 1)
                worst[toolkit, name] = max(worst.get((toolkit, name), 0.0), difference)
    print(f"| metric | {' | '.join(f'`{CONVENTION_OF[toolkit]}`' for toolkit in CONVENTION_OF)} |")
    print("|---" * (len(CONVENTION_OF) + 1) + "|")
    for name in ORDER:
        cells = [f"{worst[toolkit, name]:.0e}" if (toolkit, name) in worst else "–" for toolkit in CONVENTION_OF]
        print(f"| {name.replace('_', '-')} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
