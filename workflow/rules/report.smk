# The table of all nets, and what people look at.
from oba.report.page.render import assets_digest


# What `snakemake --report` opens on.
report: "../report/workflow.rst"


rule collect:
    input:
        of_nets("evaluation.json", "metrics.json"),
        [STAGES["split"].record(layout, Coordinates(seed=s)) for s in study.seeds],
    output:
        report(
            layout.report / "runs.csv",
            caption="../report/runs.rst",
            category="Tables",
            labels={"content": "every network", "file": "runs.csv"},
        ),
    log:
        log_of(layout.report / "collect"),
    benchmark:
        layout.times(layout.report / "collect")
    conda:
        "../../environment.yml"
    params:
        code=stage_code("collect"),
        study=layout.study,
    shell:
        "exec oba collect --study {params.study} > {log} 2>&1"


rule report:
    input:
        layout.report / "runs.csv",
        [layout.structures(Coordinates(model)) for model in models_by_slug(study)],
        of_nets("plan.json", "history.csv"),
    output:
        report(
            layout.report / "summary.csv",
            caption="../report/summary.rst",
            category="Tables",
            labels={"content": "means over seeds", "file": "summary.csv"},
        ),
        layout.report / "summary.md",
        report(
            layout.report / "index.html",
            caption="../report/page.rst",
            category="Page",
            labels={"content": "the whole sweep, interactive", "file": "index.html"},
        ),
        report(
            layout.report / "tradeoff.png",
            caption="../report/tradeoff.rst",
            category="Pictures",
            labels={
                "content": "accuracy against what is kept",
                "file": "tradeoff.png",
            },
        ),
        report(
            layout.report / "channels.png",
            caption="../report/channels.rst",
            category="Pictures",
            labels={"content": "what is kept of every layer", "file": "channels.png"},
        ),
        report(
            layout.report / "curves.png",
            caption="../report/curves.rst",
            category="Pictures",
            labels={"content": "training curves", "file": "curves.png"},
        ),
    log:
        log_of(layout.report / "report"),
    benchmark:
        layout.times(layout.report / "report")
    conda:
        "../../environment.yml"
    params:
        first=first_methods(study),
        code=stage_code("report"),
        # Styles and scripts are no code that the digest sees.
        assets=assets_digest(),
        study=layout.study,
    shell:
        "exec oba report --study {params.study} > {log} 2>&1"
