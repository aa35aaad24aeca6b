"""The page shows every experiment, the values of summary.csv and the failures, and escapes all text."""

import re

import pytest

from reading import all_marks, assert_shows, open_folds, seen, values
from runs import FAILING_SERVER, MARKUP, MARKUP_NAME, MISSING_CELL, MISSING_POINT, SOMETIMES_FAILING_CELL

# How missing numbers look when they are formatted by mistake.
NO_NUMBER = re.compile(r"\b(NaN|inf|infinity|undefined|null)\b", re.IGNORECASE)


@pytest.fixture(params=[True, False], ids=["scripts", "no scripts"])
def page_of(request, visit):
    """Opens a report, with scripts and without."""
    return lambda report: visit(report, java_script_enabled=request.param)


def test_every_experiment_has_its_question_picture_sentence_and_table(page_of, any_report):
    page = page_of(any_report)
    open_folds(page)
    for described in any_report.run["experiments"]:
        section = f"section.experiment#{described['name']}"
        assert seen(page, f"{section} h2"), section
        assert seen(page, f"{section} p.question") == [described["question"]]
        assert all(seen(page, f"{section} p.shows")) and seen(page, f"{section} p.shows"), section
        assert seen(page, f"{section} figure.picture svg[role=img][aria-label]"), section
        assert seen(page, f"{section} details.table td"), section


def test_every_value_of_summary_csv_that_has_a_picture_is_in_it(page_of, complete):
    page = page_of(complete)
    shown = values(page, complete)
    pictures = {(mark.experiment, mark.variant, mark.metric) for mark in shown}
    assert {experiment for experiment, _, _ in pictures} == set(complete.experiments)
    places = {(mark.experiment, mark.variant, mark.x, mark.server, mark.metric): mark.y for mark in shown}
    expected = {
        (*place, metric): float(row[metric])
        for place, row in complete.summary.items()
        for experiment, variant, metric in pictures
        if place[:2] == (experiment, variant) and row[metric]
    }
    assert places == expected


def test_tooltips_show_the_values_of_summary_csv(page_of, any_report):
    shown = values(page_of(any_report), any_report)
    # Where every trial failed, there is no value.
    assert bool(shown) == any(row["throughput_per_s"] for row in any_report.summary.values())
    for mark in shown:
        # The page's script removes titles, so that there are not two tooltips.
        if mark.title is not None:
            assert_shows(mark.title, mark, any_report)


def test_no_number_is_missing(page_of, any_report):
    page = page_of(any_report)
    open_folds(page)
    assert NO_NUMBER.findall(page.locator("body").inner_text()) == []
    attributes = page.locator("svg *").evaluate_all(
        "all => all.flatMap(one => [...one.attributes]).map(one => one.value).filter(value => /NaN|inf/.test(value))"
    )
    assert attributes == []


def test_failures_and_missing_trials_are_shown(visit, damaged):
    page = visit(damaged, java_script_enabled=False)
    drawn = all_marks(page, damaged)
    failed = [mark for mark in drawn if mark.server == FAILING_SERVER]
    # Servers without loops do not take part in all experiments.
    compared = {row["experiment"] for row in damaged.summary.values() if row["server"] == FAILING_SERVER}
    compared &= set(damaged.experiments)
    assert len(compared) >= 8 and {mark.experiment for mark in failed} == compared
    assert all("failed" in mark.title and mark.y is None for mark in failed)

    at = lambda experiment, x: [mark for mark in drawn if (mark.experiment, mark.x) == (experiment, x)]
    assert at(*MISSING_POINT) == []
    experiment, x, server = MISSING_CELL
    assert at(experiment, x) and server not in {mark.server for mark in at(experiment, x)}
    experiment, x, server = SOMETIMES_FAILING_CELL
    sometimes = [mark for mark in at(experiment, x) if mark.server == server]
    assert sometimes and all(mark.y is not None and "2 of 9" in mark.title for mark in sometimes)

    assert re.search(r"Incomplete: \d+ of \d+ trials were made", page.locator("body").inner_text())


def test_unserved_clients_are_shown(visit, complete):
    page = visit(complete, java_script_enabled=False)
    starving = [mark for mark in values(page, complete) if int(mark.row(complete)["connections_unserved"])]
    assert starving
    assert all("unserved" in mark.title for mark in starving)


def test_a_run_in_which_everything_failed(visit, hopeless):
    page = visit(hopeless, java_script_enabled=False)
    assert values(page, hopeless) == []
    assert {mark.experiment for mark in all_marks(page, hopeless)} == set(hopeless.experiments)
    assert "failed" in " ".join(seen(page, "header ul.answer > li"))
    for experiment in hopeless.experiments:
        assert "failed" in " ".join(seen(page, f"#{experiment} p.shows")), experiment


@pytest.mark.parametrize("scripts", [True, False])
def test_all_text_is_escaped(visit, damaged, scripts):
    page = visit(damaged, java_script_enabled=scripts)
    open_folds(page)
    text = page.locator("body").inner_text()
    for written in [MARKUP, MARKUP_NAME]:
        assert " ".join(written.split()) in " ".join(text.split())
    assert page.locator("img").count() == 0
    chosen = page.locator("#servers input[type=checkbox]").evaluate_all("boxes => boxes.map(box => box.value)")
    assert sorted(chosen) == sorted(damaged.servers)
