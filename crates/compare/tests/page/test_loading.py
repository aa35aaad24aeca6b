"""The page opens from a disk, is small, stands still, fits its window, and is accessible."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from reading import IS_SEEN, open_folds, seen, settle

LARGEST_BYTES = 8_000_000

PHONE = {"width": 390, "height": 844}
LAPTOP = {"width": 1280, "height": 800}
PROJECTOR = {"width": 1920, "height": 1080}

each_window = pytest.mark.parametrize("viewport", [PHONE, LAPTOP, PROJECTOR], ids=["phone", "laptop", "projector"])

# Elements wider than the window, unless they are in a box that scrolls or clips; and text that leaves its picture.
OVERFLOWING = (
    """() => {
    const isSeen = %s;
    const described = element => `${element.tagName} ${element.getAttribute('class') ?? ''} ${element.textContent.slice(0, 60)}`;
    const isHeld = element => {
        for (let box = element.parentElement; box && box !== document.body; box = box.parentElement) {
            if (getComputedStyle(box).overflowX !== 'visible') return true;
        }
        return false;
    };
    const width = document.documentElement.clientWidth;
    const leaves = element => {
        const box = element.getBoundingClientRect();
        const [left, right] = [box.left, box.right];
        const svg = element.closest('svg');
        if (!svg || svg === element) return right > width + 1 && !isHeld(element);
        const frame = svg.getBoundingClientRect();
        // A line of text is higher than its letters.
        const around = box.height / 5;
        return element.tagName === 'text' && (left < frame.left - 1 || right > frame.right + 1 ||
            box.top < frame.top - around || box.bottom > frame.bottom + around);
    };
    return [...document.body.querySelectorAll('*')].filter(isSeen).filter(leaves).map(described);
}"""
    % IS_SEEN
)

WATCH_SHIFTS = """
window.shifts = [];
new PerformanceObserver(list => list.getEntries().forEach(shift => window.shifts.push({
    value: shift.value,
    of: shift.sources.map(source => source.node?.nodeName + '.' + (source.node?.getAttribute?.('class') ?? '')),
}))).observe({type: 'layout-shift', buffered: true});
"""
OPENED_AFTER_MS = "() => performance.getEntriesByType('navigation')[0].loadEventEnd"


def test_it_opens_without_a_network_and_without_an_error(visit, any_report):
    page = visit(any_report)
    assert seen(page, "h1") and seen(page, ".machine")
    assert 1 <= len(seen(page, "header ul.answer > li")) <= 3
    print(f"open after {page.evaluate(OPENED_AFTER_MS):.0f} ms, {any_report.page.stat().st_size} bytes")


def test_it_is_small_enough_for_mail(complete):
    assert complete.page.stat().st_size < LARGEST_BYTES


@each_window
def test_nothing_moves_while_it_opens_or_is_pointed_at(blank, complete, viewport):
    page = blank(viewport=viewport)
    page.add_init_script(WATCH_SHIFTS)
    page.goto(complete.page.as_uri())
    settle(page)
    page.locator("figure.picture svg").first.hover()
    settle(page)
    assert page.evaluate("shifts") == []


@each_window
def test_nothing_leaves_the_window_or_its_picture(visit, any_report, viewport):
    page = visit(any_report, viewport=viewport)
    for folds in ["closed", "open"]:
        if folds == "open":
            open_folds(page)
        assert page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth") <= 0, folds
        assert page.evaluate(OVERFLOWING) == [], folds


@pytest.mark.parametrize(
    "name, color_scheme", [("complete", "light"), ("complete", "dark"), ("damaged", "light"), ("hopeless", "dark")]
)
def test_axe_finds_no_serious_violation(visit, request, name, color_scheme):
    page = visit(request.getfixturevalue(name), color_scheme=color_scheme)
    # The other folds hold hundreds of pictures like the visible ones; checking them takes minutes.
    open_folds(page, "details.table, details.key")
    found = Axe().run(page).response["violations"]
    grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], fault["help"], [node["html"][:200] for node in fault["nodes"][:3]]) for fault in grave] == []


@pytest.mark.parametrize("javascript", [True, False])
def test_in_print_folds_are_open_and_there_are_no_controls(visit, complete, javascript):
    page = visit(complete, java_script_enabled=javascript)
    page.emulate_media(media="print")
    assert seen(page, "button, input, select, .tooltip") == []
    tables = page.locator("section.experiment details.table table")
    assert tables.count() == len(complete.experiments)
    assert all(tables.evaluate_all(f"tables => tables.map({IS_SEEN})"))
