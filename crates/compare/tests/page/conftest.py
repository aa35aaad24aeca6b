"""Shared by the tests of the page: a browser without a network, and the reports it opens."""

import os
import shlex
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from runs import Report, all_failed, crowded, marred, unchanged

ROOT = Path(__file__).parents[4]
# Addresses that need no network.
LOCAL = ("file:", "data:", "blob:", "about:")


def pytest_addoption(parser):
    parser.addoption("--run", type=Path, default=ROOT / "results/sample", help="the folder of a complete run")
    parser.addoption(
        "--compare", type=shlex.split, default=["cargo", "run", "--quiet", "--bin", "compare", "--"], help="the command that builds the report"
    )
    parser.addoption("--chromium", default="chromium", help="the browser")


@pytest.fixture(scope="session")
def browser(pytestconfig):
    # Chromium's sandbox refuses to run as root, as continuous integration does.
    args = ["--no-sandbox"] if os.geteuid() == 0 else []
    program = shutil.which(pytestconfig.getoption("chromium"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=args)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def make_report(pytestconfig, tmp_path_factory):
    """Makes the report of a copy of the run, after `change` was done to its trials and its run.json."""

    def make(change):
        folder = tmp_path_factory.mktemp(change.__name__) / "run"
        return Report.make(pytestconfig.getoption("run"), folder, change, pytestconfig.getoption("compare"))

    return make


@pytest.fixture(scope="session")
def complete(make_report):
    """The report of an unchanged run."""
    return make_report(unchanged)


@pytest.fixture(scope="session")
def many_servers(make_report):
    """The report of a run with a dozen external servers."""
    return make_report(crowded)


@pytest.fixture(scope="session")
def damaged(make_report):
    """The report of a run with failed and missing trials, and with markup in every free text."""
    return make_report(marred)


@pytest.fixture(scope="session")
def hopeless(make_report):
    """The report of a run in which every trial failed."""
    return make_report(all_failed)


@pytest.fixture(params=["complete", "damaged", "hopeless"])
def any_report(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def blank(browser):
    """Opens a fresh window without a network; the arguments are those of Playwright's contexts.

    A test fails when its page writes an error to the console or makes a network request.
    """
    contexts, faults = [], []

    def blank(**options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "offline": True, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(LOCAL) else faults.append(f"requests {request.url}"))
        return page

    yield blank
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def visit(blank):
    """Opens a report in a fresh window."""

    def visit(report, **options):
        page = blank(**options)
        page.goto(report.page.as_uri())
        return page

    return visit
