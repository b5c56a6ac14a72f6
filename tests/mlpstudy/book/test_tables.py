"""Settings in words: every kind of run says what was done, and differences are visible."""

import dataclasses
import re

import pytest
from small_runs import record, small

from mlplib.specs import (
    CheckpointSpec,
    DataSpec,
    EvaluateSpec,
    FilterSpec,
    FineTuneSpec,
    ModelSpec,
    OptimizerSpec,
    ProbeSpec,
)
from mlplib.store import run_id
from mlpstudy.book import html
from mlpstudy.book.tables import (
    FACTS,
    NO_FACT,
    VERDICT_CLASSES,
    facts,
    judgement_cells,
    numbers_table,
    parts,
    run_anchor,
    runs_table,
)
from mlpstudy.claims import judge, positive
from mlpstudy.experiments.base import Cell
from mlpstudy.stats import Estimate, over_seeds

UPSTREAM = small(data=DataSpec("shapes-16-upstream"), keep_at=(2,))
ON = DataSpec("shapes-16-downstream")
TUNED = FineTuneSpec(UPSTREAM, ON, epochs=4, batch_size=8)


def test_a_run_is_told_with_the_runs_it_names():
    evaluated = EvaluateSpec(TUNED)
    assert parts(evaluated) == [evaluated, TUNED, UPSTREAM]
    assert parts(ProbeSpec(ON, None)) == [ProbeSpec(ON, None)]


def test_facts_are_those_of_the_kinds_that_are_there():
    found = facts([EvaluateSpec(TUNED), dataclasses.replace(UPSTREAM, seed=7)])
    assert found["epochs"] == "3" and found["fine-tuning: epochs"] == "4"
    assert found["seeds"] == "0; 7"
    assert found["data"] == "6 drawn shapes" and found["fine-tuning: data"] == "4 drawn shapes"
    assert found["evaluation: random views"] == "100"
    assert {found[name] for name in FACTS[ProbeSpec]} == {NO_FACT}
    assert set(facts([])) == set(found) and set(facts([]).values()) == {NO_FACT}


@pytest.mark.parametrize(
    "changed, name, text",
    [
        (
            dict(model=ModelSpec.parse("B-1/Wi-16", norm="batch", skip=False)),
            "model",
            "norm batch, skip False",
        ),
        (dict(data=DataSpec("shapes-16", resolution=32)), "data", "drawn shapes at 32 x 32"),
        (dict(data=DataSpec("shapes-16", held_out=500)), "tested on", "500 held out"),
        (dict(optimizer=OptimizerSpec(lr=1e-3, schedule="cosine")), "learning rate", "0.001, cosine"),
        (dict(optimizer=OptimizerSpec(clip=1.0)), "gradient clipping", "1.0"),
    ],
)
def test_a_changed_setting_is_told(changed, name, text):
    assert text in facts([small(**changed)])[name]
    assert facts([small()])[name] != facts([small(**changed)])[name]


def test_every_run_of_a_table_says_what_it_read():
    specs = [
        UPSTREAM,
        TUNED,
        EvaluateSpec(TUNED),
        FilterSpec(UPSTREAM),
        ProbeSpec(ON, UPSTREAM, epoch=2),
        ProbeSpec(ON, None, method="ridge"),
        CheckpointSpec("official", "0" * 64),
    ]
    made = {"device": "a test", "precision": "fp32", "torch": "2"}
    records = [dataclasses.replace(record(spec), environment=made) for spec in specs]
    shown = runs_table("This execution", records)
    for spec in specs:
        assert shown.count(f"{run_id(spec)}</code>") == 1
    assert f"of {run_id(UPSTREAM)} after epoch 2" in shown and f"of {run_id(TUNED)}" in shown
    assert "of the pixels" in shown and "closed form" in shown


def test_published_runs_keep_their_ids_where_the_data_are_stored_in_another_order(monkeypatch):
    made = {"device": "a test", "precision": "fp32", "torch": "2"}
    records = [
        dataclasses.replace(record(spec), environment=made) for spec in (UPSTREAM, FilterSpec(UPSTREAM))
    ]
    published = runs_table("This study", records)
    monkeypatch.setattr("mlplib.store.content_hash", lambda name: "0" * 64)
    assert run_id(UPSTREAM) not in published and runs_table("This study", records) == published


def made_of(specs, **changes):
    made = {"device": "a test", "precision": "fp32", "torch": "2"} | changes
    compute = [{"seconds": 10.0 + 5 * spec.seed, "images_per_second": 100.0} for spec in specs]
    return [
        dataclasses.replace(record(spec), environment=made, compute=found)
        for spec, found in zip(specs, compute, strict=True)
    ]


def seeds_of(spec, seeds):
    """The run with each seed, on images that are drawn by it."""
    data = DataSpec("shapes-16-upstream", examples=100)
    return [dataclasses.replace(spec, seed=s, data=dataclasses.replace(data, draw=s + 1)) for s in seeds]


def test_runs_of_several_seeds_share_a_row():
    trained = seeds_of(UPSTREAM, (0, 1, 2, 7))
    probes = [ProbeSpec(ON, upstream, seed=upstream.seed) for upstream in trained]
    shown = runs_table("This execution", made_of(trained + probes))
    assert shown.count("<tr>") == 1 + 2 and len(re.findall("<code [^>]*id=", shown)) == 8
    assert "seeds: 0–2; 7" in shown and "10 s to 45 s" in shown
    assert "<td>100</td>" in shown, "a rate that all of them have is shown once"
    assert f"of {run_id(trained[0])} and of the other seeds" in shown


def test_what_all_rows_of_a_kind_have_in_common_is_said_once():
    short, long = UPSTREAM, dataclasses.replace(UPSTREAM, epochs=5)
    probes = [ProbeSpec(ON, upstream) for upstream in (short, long)]
    shown = runs_table("x", made_of([short, long, *probes]))
    before, body = shown.split("</p>")
    known, of_probe = facts([short]), facts(probes)
    for name in ("model", "data", "probe: data"):
        said = f"{name}: {(of_probe if name.startswith('probe') else known)[name]}"
        assert said in before and said not in body
    assert f"epochs: {short.epochs}" in body and "epochs: 5" in body and "; epochs: 5" not in before
    assert "torch: 2" in before and ">torch</th>" not in body
    other = runs_table("x", made_of([short], torch="1") + made_of([long]))
    assert ">torch</th>" in other and "torch: " not in other
    alone = runs_table("x", made_of([short, probes[0]]))
    assert f"model: {known['model']}" in alone.split("</p>")[1], "a single run says all of its own"


def test_a_number_links_to_all_its_runs_and_names_one_of_those_that_differ_in_their_seed():
    trained = seeds_of(UPSTREAM, (0, 1, 12))
    other = dataclasses.replace(UPSTREAM, model=ModelSpec.parse("S-1/Wi-16"))
    ids = tuple(map(run_id, (*trained[:2], other, trained[2])))
    cell = Cell("Table 1", "a row", "a column", over_seeds([1.0, 2.0]), "%", run_ids=ids)
    shown = numbers_table("This execution", [cell])
    links = re.findall('<a href="#(.*?)">(.*?)</a>', shown)
    named = {
        ids[0]: ids[0].rpartition("-")[0],
        ids[1]: "s1",
        ids[3]: "s12",
        ids[2]: ids[2].rpartition("-")[0],
    }
    assert links == [(run_anchor("This execution", id), text) for id, text in named.items()]
    alone = dataclasses.replace(cell, run_ids=tuple(map(run_id, trained)))
    texts = re.findall("<a href=[^>]*>(.*?)</a>", numbers_table("This execution", [alone]))
    assert texts == ["s0", "s1", "s12"], "the number says what they are"
    again = dataclasses.replace(cell, row="another")
    both = numbers_table("This execution", [cell, again])
    assert both.count("<a href") == len(links) and both.count("those of a row, a column") == 1


def test_a_number_of_many_different_runs_refers_to_the_data_file():
    many = [dataclasses.replace(UPSTREAM, epochs=epochs) for epochs in range(3, 24)]
    cell = Cell("Fig 1", "a law", "a column", over_seeds([1.0, 2.0]), "", run_ids=tuple(map(run_id, many)))
    shown = numbers_table("x", [cell, dataclasses.replace(cell, row="few", run_ids=cell.run_ids[1:])])
    assert "21 runs, listed in the data file (CSV) of Fig 1" in shown and shown.count("<a href") == 20


def test_runs_that_differ_in_more_than_the_seed_or_their_machine_have_rows_of_their_own():
    several = seeds_of(UPSTREAM, (0, 1))
    other = [dataclasses.replace(spec, epochs=5) for spec in several]
    same_images = [dataclasses.replace(spec, data=several[0].data) for spec in several]
    assert runs_table("x", made_of(several + other)).count("<tr>") == 1 + 2
    assert runs_table("x", made_of(same_images)).count("<tr>") == 1 + 2
    probes = [ProbeSpec(ON, upstream, seed=0) for upstream in (*several, *other)]
    assert runs_table("x", made_of(probes)).count("<tr>") == 1 + 2, "what they read counts"
    records = made_of(several[:1]) + made_of(several[1:], precision="bf16")
    assert runs_table("x", records).count("<tr>") == 1 + 2


def test_every_effect_of_a_verdict_has_a_line_of_its_own():
    several = judge([positive(Estimate(2.0, 1.0, 3.0, 3), "points", name) for name in ("A & B", "C")])
    assert judgement_cells(several)["effect"].startswith("A &amp; B +2.0 [+1.0, +3.0];<br>C +2.0 [")


def test_every_verdict_has_a_mark_besides_its_color():
    marks = [
        re.findall(rf'.mlp-chip.{look}::before {{ content: "(.) "', html.STYLE)
        for look in VERDICT_CLASSES.values()
    ]
    assert all(len(mark) == 1 for mark in marks) and len({mark for (mark,) in marks}) == len(VERDICT_CLASSES)
