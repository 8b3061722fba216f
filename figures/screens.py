"""Screenshots of a report, light, dark and narrow: `python figures/screens.py neurolens-demo/report.html`.

It needs Playwright (dependency group dev) and Chromium. `report.png`, which README shows, is a neuron's page.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from neurolens.testing.browser import FLAGS, find_chromium

FOLDER = Path(__file__).parent / "report"
PAGES = {"overview": "", "neurons": "neurons?class=unigram_detector", "detector": "2.3249", "positional": "0.2816"}
PAGES |= {"token": "token/{token}"}
LOOKS = {"light": (1280, 900), "dark": (1280, 900), "narrow": (400, 860)}  # CSS pixels


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--token", type=int, default=300, help="whose page is shown")
    asked = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        for look, (width, height) in LOOKS.items():
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme="dark" if look == "dark" else "light"
            )
            for name, route in PAGES.items():
                page.goto(f"{asked.report.resolve().as_uri()}#{route.format(token=asked.token)}")
                page.wait_for_function("document.documentElement.dataset.shown")
                page.wait_for_timeout(500)
                page.screenshot(path=FOLDER / f"{name}-{look}.png")
            page.close()
        browser.close()
    shutil.copyfile(FOLDER / "detector-light.png", FOLDER.with_suffix(".png"))


if __name__ == "__main__":
    main()
