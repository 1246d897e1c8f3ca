"""A report on a phone: no chart is cut."""

import pytest

import lepton_lab as lab

WIDTH = 420


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_of_a_report_are_seen_whole_on_a_phone(browser, home, tmp_path, scheme):
    run = lab.launch(lab.Spec(model="mlp", epochs=1))
    assert run.wait(90) == "done", run.failure
    context = browser.new_context(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme)
    try:
        page = context.new_page()
        page.goto(lab.report([run], tmp_path / "report.html").as_uri())
        ends = "(all) => all.map((one) => one.getBoundingClientRect().right)"
        drawn = page.locator(".charts img").evaluate_all(ends)
        assert len(drawn) > 3 and max(drawn) <= WIDTH
        assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH
    finally:
        context.close()
