"""Reads a page as a user does: what is visible, and the tooltips of the marks."""

import re
from dataclasses import dataclass

IS_SEEN = """element => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.height > 0 && element.checkVisibility({visibilityProperty: true, opacityProperty: true});
}"""

# Every visible mark of a picture, with the middle of its last shape, which represents the value.
MARKS = (
    """figure => {
    const isSeen = %s;
    return [...figure.querySelectorAll('.mark')].filter(isSeen).map(mark => {
        const shapes = [...mark.children].filter(child => child.tagName !== 'title');
        const box = (shapes.at(-1) ?? mark).getBoundingClientRect();
        return {
            experiment: figure.closest('section').id, metric: figure.dataset.metric, variant: figure.dataset.variant,
            server: mark.dataset.server, x: mark.dataset.x, y: mark.dataset.y, title: mark.querySelector('title')?.textContent,
            middle: [box.x + box.width / 2, box.y + box.height / 2],
        };
    });
}"""
    % IS_SEEN
)

# Scrolling and layout shifts are reported with the frame after the one in which they happen.
AFTER_THREE_FRAMES = """() => new Promise(resolve => {
    let frames = 3;
    const next = () => frames-- ? requestAnimationFrame(next) : setTimeout(resolve);
    next();
})"""

FIGURES = "section.experiment figure.picture"

# A tooltip is "epoll at 100: p99 1,118.2 µs (874.0 .. 2,117.6); ..."; the word before the value varies, or is missing.
TOOLTIP = re.compile(
    r" at (?P<x>[\d,.]+).*?: (?:>= )?(?:p[\d.]+ |[A-Za-z][^\d;]* )?(?P<y>[\d,.]+) [^(;]*(?:\((?P<low>[\d,.]+) \.\. (?P<high>[\d,.]+)\))?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Mark:
    """A visible mark of a picture."""

    experiment: str
    metric: str
    variant: str
    server: str
    x: float | None
    y: float | None
    title: str | None
    middle: tuple[float, float]

    def row(self, report):
        """The row of summary.csv with its value."""
        return report.summary[self.experiment, self.variant, self.x, self.server]


def marks(figure):
    """All visible marks of a picture."""
    number = lambda text: float(text) if text else None
    fields = ({**mark, "x": number(mark["x"]), "y": number(mark["y"])} for mark in figure.evaluate(MARKS))
    return [Mark(**{**mark, "middle": tuple(mark["middle"])}) for mark in fields]


def figures_of_values(page, report):
    """The visible pictures that show a metric of summary.csv at each point."""
    columns = next(iter(report.summary.values())).keys()
    figures = page.locator(FIGURES).filter(visible=True).all()
    return [figure for figure in figures if figure.get_attribute("data-metric") in columns]


def all_marks(page, report):
    return [mark for figure in figures_of_values(page, report) for mark in marks(figure)]


def values(page, report):
    """The marks that show a value of summary.csv."""
    return [mark for mark in all_marks(page, report) if mark.y is not None]


def assert_shows(text, mark, report):
    """Checks that a tooltip has the rounded values of summary.csv."""
    row = mark.row(report)
    assert text.startswith(mark.server), f"{text!r} is not about {mark.server}"
    match = TOOLTIP.match(text[len(mark.server) :])
    assert match, f"{text!r} has no value"
    columns = {"x": "point", "y": mark.metric, "low": f"{mark.metric}_low", "high": f"{mark.metric}_high"}
    for part, column in columns.items():
        assert is_rounded(match[part], row[column]), f"{text!r}: {column} is {row[column]!r}"


def is_rounded(shown, exact):
    """Whether a number with separators is the exact one with fewer digits, or both are missing."""
    if not shown or not exact:
        return not shown and not exact
    digits = len(shown.partition(".")[2])
    return abs(float(shown.replace(",", "")) - float(exact)) <= 0.500001 * 10**-digits


def seen(page, selector):
    """The texts of all visible elements."""
    script = f"elements => elements.filter({IS_SEEN}).map(element => element.textContent.trim())"
    return page.locator(selector).evaluate_all(script)


def open_folds(page, selector="details"):
    page.locator(selector).evaluate_all("folds => folds.forEach(fold => fold.open = true)")


def settle(page):
    """Waits until the page has handled all events."""
    page.evaluate(AFTER_THREE_FRAMES)
