"""The front page's answer follows from the records, whatever they say."""

import re

from small_runs import ROOT

from mlpstudy.book import page_front
from mlpstudy.claims import (
    CONTRADICTED,
    NOT_TESTED,
    NOT_THERE,
    PARTLY,
    REPRODUCED,
    Judgement,
    judge,
    not_tested,
    positive,
)
from mlpstudy.evidence import verdicts
from mlpstudy.stats import Estimate

CLAIMS = {claim.id: claim for _, claim in verdicts.every_claim()}


def entry(id, judgement):
    return verdicts.Entry(CLAIMS[id], judgement, "a machine")


def test_the_answer_names_claims_that_small_runs_did_not_show():
    absent = Judgement(NOT_TESTED, because=f"{NOT_THERE} at laptop scale, but is about more")
    board = {"laptop": {"C09": entry("C09", absent), "C08": entry("C08", not_tested("needs ImageNet"))}}
    assert "22 not tested at this scale (C09 does not hold in small runs)" in page_front.answer(board)
    board["laptop"]["C14"] = entry("C14", absent)
    assert "(C09, C14 do not hold in small runs)" in page_front.answer(board)


def test_the_answer_counts_the_largest_scale_that_tests_a_claim_and_says_its_effect():
    won = judge([positive(Estimate(12.0, 11.0, 13.0, 3), "points")])
    lost = judge([positive(Estimate(-12.0, -13.0, -11.0, 3), "points")])
    board = {
        "gpu": {"C01": entry("C01", not_tested("")), "C04": entry("C04", lost)},
        "laptop": {"C01": entry("C01", won), "C04": entry("C04", won)},
    }
    text = page_front.answer(board)
    assert f"1 {REPRODUCED}, 1 {CONTRADICTED}, {len(CLAIMS) - 2} not tested" in text
    assert (
        "+12.0 [+11.0, +13.0] points (C01, laptop)" in text
        and "−12.0 [−13.0, −11.0] points (C04, gpu)" in text
    )
    assert text.count(".</p>") == 1 and "exponent" not in text  # no record speaks of it
    chips = re.findall(r'href="chapters/([\w-]+)\.html">(C\d\d)<', page_front.scoreboard(board))
    assert len(chips) == 2 * len(CLAIMS) and ("from-scratch", "C01") in chips


def test_the_answer_says_of_a_part_that_is_too_small_only_that_it_is_contradicted():
    """Such a part is contradicted although it points in the direction of the sentence."""
    won = positive(Estimate(12.0, 11.0, 13.0, 3), "points")
    small = positive(Estimate(0.2, 0.1, 0.3, 3), "points")
    text = page_front.answer({"gpu": {"C15": entry("C15", judge([won, small]))}})
    assert f"1 {PARTLY} (in C15 a part is contradicted)" in text


def test_the_page_shows_published_values_next_to_the_papers(tmp_path):
    page_front.write(tmp_path, ROOT / "results")
    text = (tmp_path / page_front.NAME).read_text(encoding="utf-8")
    assert text.startswith("```{raw} html\n") and text.endswith("\n```\n") and text.count("```") == 2
    assert "paper-against-study.csv" in text and text.count("<svg ") == 1
    (tmp_path / "nothing").mkdir()
    page_front.write(tmp_path, tmp_path / "nothing")
    assert "No records are published yet" in (tmp_path / page_front.NAME).read_text(encoding="utf-8")
