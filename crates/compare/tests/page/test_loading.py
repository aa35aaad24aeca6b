"""The page opens from a disk, without a network."""


def test_it_opens_without_a_network_and_without_an_error(visit, any_report):
    page = visit(any_report)
    assert page.locator("h1").is_visible()
