"""Reads a page as its reader does: what can be seen, and what the marks of its pictures say."""

import re
from dataclasses import dataclass

IS_SEEN = """element => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.height > 0 && element.checkVisibility({visibilityProperty: true, opacityProperty: true});
}"""

# Every mark that can be seen, with the middle of its last shape, which is the one that stands for the value.
MARKS = (
    """() => {
    const isSeen = %s;
    return [...document.querySelectorAll('section.experiment figure.picture')].flatMap((figure, index) =>
        [...figure.querySelectorAll('.mark')].filter(isSeen).map(mark => {
            const shapes = [...mark.children].filter(child => child.tagName !== 'title' && isSeen(child));
            const box = (shapes.at(-1) ?? mark).getBoundingClientRect();
            return {
                experiment: figure.closest('section').id, figure: index, metric: figure.dataset.metric,
                variant: figure.dataset.variant, scale: mark.closest('.view').classList.contains('log') ? 'log' : 'linear',
                server: mark.dataset.server, x: mark.dataset.x, y: mark.dataset.y,
                title: mark.querySelector('title')?.textContent,
                middle: [box.x + box.width / 2, box.y + box.height / 2],
            };
        }));
}"""
    % IS_SEEN
)

# In a picture that shows one server's value at a place of the axis: "epoll at 100: p99 1,118.2 µs (874.0 .. 2,117.6); ...".
SAYS = re.compile(
    r" at (?P<x>[\d,.]+).*?: (?:>= )?(?:(?:p[\d.]+|mean|max) )?(?P<y>[\d,.]+) [^(;]*(?:\((?P<low>[\d,.]+) \.\. (?P<high>[\d,.]+)\))?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Mark:
    """A mark that can be seen in a picture."""

    experiment: str
    figure: int
    metric: str
    variant: str
    scale: str
    server: str
    x: float | None
    y: float | None
    title: str | None
    middle: tuple[float, float]

    def row(self, report):
        """The row of summary.csv with its value."""
        return report.summary[self.experiment, self.variant, self.x, self.server]


def marks(page):
    number = lambda text: float(text) if text else None
    fields = ({**mark, "x": number(mark["x"]), "y": number(mark["y"])} for mark in page.evaluate(MARKS))
    return [Mark(**{**mark, "middle": tuple(mark["middle"])}) for mark in fields]


def values(page, report):
    """The marks that show a value of summary.csv."""
    columns = next(iter(report.summary.values())).keys()
    return [mark for mark in marks(page) if mark.metric in columns and mark.y is not None]


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


def open_folds(page):
    page.locator("details").evaluate_all("folds => folds.forEach(fold => fold.open = true)")
