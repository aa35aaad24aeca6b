"""Reads a page as its reader does: what can be seen, and what the marks of its pictures say."""

import re
from dataclasses import dataclass

IS_SEEN = """element => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.height > 0 && element.checkVisibility({visibilityProperty: true, opacityProperty: true});
}"""

# Every mark of a picture that can be seen, with the middle of its last shape, which is the one that stands for the value.
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

# Scrolling and layout shifts are told with the frame after the one in which they happen.
AFTER_THREE_FRAMES = """() => new Promise(resolve => {
    let frames = 3;
    const next = () => frames-- ? requestAnimationFrame(next) : setTimeout(resolve);
    next();
})"""

FIGURES = "section.experiment figure.picture"

# A mark says "epoll at 100: p99 1,118.2 µs (874.0 .. 2,117.6); ..."; what stands before the value may be another word, or nothing.
SAYS = re.compile(
    r" at (?P<x>[\d,.]+).*?: (?:>= )?(?:p[\d.]+ |[A-Za-z][^\d;]* )?(?P<y>[\d,.]+) [^(;]*(?:\((?P<low>[\d,.]+) \.\. (?P<high>[\d,.]+)\))?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Mark:
    """A mark that can be seen in a picture."""

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
    """All marks of a picture that can be seen."""
    number = lambda text: float(text) if text else None
    fields = ({**mark, "x": number(mark["x"]), "y": number(mark["y"])} for mark in figure.evaluate(MARKS))
    return [Mark(**{**mark, "middle": tuple(mark["middle"])}) for mark in fields]


def figures_of_values(page, report):
    """The pictures that can be seen and show a metric of summary.csv at each point."""
    columns = next(iter(report.summary.values())).keys()
    figures = page.locator(FIGURES).filter(visible=True).all()
    return [figure for figure in figures if figure.get_attribute("data-metric") in columns]


def all_marks(page, report):
    return [mark for figure in figures_of_values(page, report) for mark in marks(figure)]


def values(page, report):
    """The marks that show a value of summary.csv."""
    return [mark for mark in all_marks(page, report) if mark.y is not None]


def assert_says(text, mark, report):
    """Checks that what is shown of a mark is what summary.csv holds, rounded."""
    row = mark.row(report)
    assert text.startswith(mark.server), f"{text!r} is not of {mark.server}"
    told = SAYS.match(text[len(mark.server) :])
    assert told, f"{text!r} tells no value"
    columns = {"x": "point", "y": mark.metric, "low": f"{mark.metric}_low", "high": f"{mark.metric}_high"}
    for part, column in columns.items():
        assert is_rounded(told[part], row[column]), f"{text!r}: {column} is {row[column]!r}"


def is_rounded(shown, exact):
    """Whether a number with separators is another one with fewer digits; nothing is shown of nothing."""
    if not shown or not exact:
        return not shown and not exact
    digits = len(shown.partition(".")[2])
    return abs(float(shown.replace(",", "")) - float(exact)) <= 0.500001 * 10**-digits


def seen(page, selector):
    """The texts of all elements that can be seen."""
    script = f"elements => elements.filter({IS_SEEN}).map(element => element.textContent.trim())"
    return page.locator(selector).evaluate_all(script)


def open_folds(page, selector="details"):
    page.locator(selector).evaluate_all("folds => folds.forEach(fold => fold.open = true)")


def settle(page):
    """Waits until the page has been told of all that has happened to it."""
    page.evaluate(AFTER_THREE_FRAMES)
