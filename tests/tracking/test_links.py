from __future__ import annotations

from oba.tracking import stage_run
from oba.tracking.links import charts, charts_of


def test_charts_are_found_by_what_was_sent(lab):
    journals = lab.folder / "journal"
    assert charts_of(journals, lab.uri) == ""
    with stage_run(lab.journal(), lab.identity(), uri=lab.uri, results_dir=lab.results):
        pass
    number = lab.client.get_experiment_by_name(lab.experiment).experiment_id
    assert charts_of(journals, lab.uri) == charts(number)
    assert charts(number).startswith(f"#/experiments/{number}/runs?viewStateShareKey=oba-chains&")
    assert charts_of(journals, "http://elsewhere:5000") == ""
