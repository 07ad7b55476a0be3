"""Integration tests train models and start programs: 1 to 12 s of processor time for most modules' first test alone."""

import shutil
from pathlib import Path

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder as slow."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        installed = next(filter(None, map(shutil.which, CHROMIUM)), None) or started.chromium.executable_path
        if not Path(installed).exists():
            pytest.skip("no Chromium: install Debian's package chromium, or run playwright install chromium")
        browser = started.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        yield browser
        browser.close()
