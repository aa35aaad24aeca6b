"""Using the page: pointing at marks, moving through them with keys, choosing servers and scales, downloading pictures."""

import json
import xml.etree.ElementTree as ElementTree
from collections import defaultdict

import pytest
from PIL import Image
from playwright.sync_api import expect

from reading import FIGURES, IS_SEEN, assert_shows, figures_of_values, marks, settle

# At most this number of links and controls precede the choice of servers.
MOST_STOPS = 40

# The colour of each server in a picture of the page.
COLORS = """picture => Object.fromEntries([...picture.querySelectorAll('g.server')].map(
    group => [group.dataset.server, getComputedStyle(group).color]))"""

# The checkbox, colour and mark of each server in the legend.
LOOKS = """() => [...document.querySelectorAll('#servers label')].map(label => {
    const glyph = label.querySelector('.glyph');
    return [label.querySelector('input').id, getComputedStyle(glyph).color, glyph.querySelector('svg').innerHTML];
})"""

# The paints of each server's marks, in any picture.
PAINTS = """() => Object.fromEntries([...document.querySelectorAll('g.server')].map(group => [group.dataset.server,
    [...group.querySelectorAll('.mark *')].map(getComputedStyle).flatMap(style => [style.fill, style.stroke])]))"""

scripts = pytest.mark.parametrize("java_script_enabled", [True, False], ids=["scripts", "no scripts"])


@pytest.mark.parametrize("name", ["complete", "damaged"])
def test_pointing_at_a_mark_shows_its_value(visit, request, name):
    report = request.getfixturevalue(name)
    page = visit(report)
    tooltip = page.locator("div.tooltip[role=status]")
    pointed_at, there = set(), set()
    for figure in figures_of_values(page, report):
        # Nothing sticky lies above the middle of the window.
        figure.evaluate("figure => figure.scrollIntoView({block: 'center', behavior: 'instant'})")
        settle(page)
        here = marks(figure)
        there |= {(mark.metric, mark.server) for mark in here if mark.y is not None}
        for mark in here:
            if mark.y is None or (mark.metric, mark.server) in pointed_at:
                continue
            page.mouse.move(0, 0)
            expect(tooltip).to_be_hidden()
            page.mouse.move(*mark.middle)
            expect(tooltip).to_be_visible()
            # Where marks cover one another, each has a line.
            [text] = [line for line in tooltip.inner_text().splitlines() if line.startswith(f"{mark.server} at ")]
            assert_shows(text, mark, report)
            assert_is_in_the_window(page, tooltip)
            pointed_at.add((mark.metric, mark.server))
    assert {metric for metric, _ in there} >= {experiment["ranked_by"] for experiment in report.run["experiments"]}
    assert pointed_at == there


def assert_is_in_the_window(page, tooltip):
    box, window = tooltip.bounding_box(), page.viewport_size
    assert box["x"] >= 0 and box["y"] >= 0
    assert box["x"] + box["width"] <= window["width"] and box["y"] + box["height"] <= window["height"]


def test_the_arrow_keys_reach_every_mark(visit, complete):
    page = visit(complete)
    tooltip = page.locator("div.tooltip[role=status]")
    for experiment in complete.experiments:
        figure = page.locator(f"#{experiment} figure.picture").first
        here = {(mark.server, mark.x): mark for mark in marks(figure)}
        points, servers = len({x for _, x in here}), len({server for server, _ in here})
        figure.locator("svg:visible").focus()
        # The page hides the tooltip when it is scrolled, as it may have been to the picture.
        settle(page)
        walked, before = set(), None
        for key in (["ArrowLeft"] * points + ["ArrowRight"] * points + ["ArrowDown"]) * servers:
            page.keyboard.press(key)
            text = tooltip.inner_text()
            [place] = [place for place in here if text.startswith(f"{place[0]} at {place[1]:,.0f}:")]
            if here[place].y is None:
                assert "failed" in text
            else:
                assert_shows(text, here[place], complete)
            if before:
                assert (place[0] == before[0]) == (key != "ArrowDown")
            walked.add(place)
            before = place
        assert walked == set(here)
        page.keyboard.press("Escape")
        expect(tooltip).to_be_hidden()


@scripts
@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_a_server_that_is_not_chosen_is_hidden_everywhere(visit, complete, how, java_script_enabled):
    page = visit(complete, java_script_enabled=java_script_enabled)
    before = shown_servers(page)
    assert set(before) == set(complete.servers)
    for server in complete.servers:
        toggle(page, server, how)
        without = {name: count for name, count in before.items() if name != server}
        assert shown_servers(page) == without
        toggle(page, server, how)
    assert shown_servers(page) == before


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_many_servers_have_looks_and_checkboxes_of_their_own(visit, many_servers, color_scheme):
    page = visit(many_servers, color_scheme=color_scheme)
    looks = page.evaluate(LOOKS)
    assert len(looks) == len(many_servers.servers)
    assert len({(color, mark) for _, color, mark in looks}) == len({checkbox for checkbox, _, _ in looks}) == len(looks)
    before = shown_servers(page)
    for server in ["own-0", "own-11"]:
        toggle(page, server, "mouse")
        assert shown_servers(page) == {name: count for name, count in before.items() if name != server}
        toggle(page, server, "mouse")


def shown_servers(page):
    """How many elements of each server are visible, without its checkbox."""
    counts = defaultdict(int)
    script = f"all => all.filter(one => !one.closest('#servers')).filter({IS_SEEN}).map(one => one.dataset.server)"
    for server in page.locator("[data-server]").evaluate_all(script):
        counts[server] += 1
    return dict(counts)


def toggle(page, server, how):
    box = f"input[value={json.dumps(server)}]"
    checkbox = page.locator(f"#servers {box}")
    was_checked = checkbox.is_checked()
    if how == "mouse":
        page.locator("#servers label").filter(has=page.locator(box)).click()
    else:
        # The focus starts where something was clicked last.
        page.locator("h1").click()
        for _ in range(MOST_STOPS):
            page.keyboard.press("Tab")
            if checkbox.evaluate("element => element === document.activeElement"):
                break
        page.keyboard.press("Space")
    assert checkbox.is_checked() != was_checked


@scripts
@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_a_picture_is_shown_on_the_scale_chosen(visit, complete, how, java_script_enabled):
    page = visit(complete, java_script_enabled=java_script_enabled)
    figures = page.locator(FIGURES).filter(has=page.locator("fieldset.scale")).filter(visible=True)
    assert figures.count() > 5
    for figure in figures.all()[:5]:
        for _ in range(2):
            [shown] = shown_views(figure)
            other = "linear" if shown == "log" else "log"
            if how == "mouse":
                figure.locator("fieldset.scale label").filter(has=page.locator(f"input.{other}")).click()
            else:
                figure.locator("fieldset.scale input:checked").focus()
                page.keyboard.press("ArrowRight")
            assert shown_views(figure) == [other]


def shown_views(figure):
    script = f"views => views.filter({IS_SEEN}).map(view => view.classList.contains('log') ? 'log' : 'linear')"
    return figure.locator(".view").evaluate_all(script)


def test_a_picture_is_downloaded_as_svg(visit, complete, tmp_path):
    page = visit(complete)
    figure = page.locator(FIGURES).first
    colors = figure.locator("svg:visible").evaluate(COLORS)
    path = downloaded(page, figure, tmp_path, "svg")
    assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    page.goto(path.as_uri())
    paints = page.evaluate(PAINTS)
    assert paints.keys() == colors.keys()
    assert all(colors[server] in paints[server] for server in colors)


def test_a_picture_is_downloaded_as_png(visit, complete, tmp_path):
    page = visit(complete)
    figure = page.locator(FIGURES).first
    colors = figure.locator("svg:visible").evaluate(COLORS)
    with Image.open(downloaded(page, figure, tmp_path, "png")) as image:
        assert image.width >= 440 and image.height >= 300
        painted = {f"rgb{color}" for _, color in image.convert("RGB").getcolors(1 << 24)}
    assert set(colors.values()) <= painted


def downloaded(page, figure, folder, kind):
    with page.expect_download() as download:
        figure.locator(f"button.download[data-format={kind}]").click()
    path = folder / download.value.suggested_filename
    assert path.suffix == f".{kind}"
    download.value.save_as(path)
    return path

