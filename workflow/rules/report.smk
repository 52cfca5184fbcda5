# The table of all nets, and what people look at.


rule collect:
    input:
        [layout.net(cell) / "evaluation.json" for cell in cells(study)],
        [layout.net(cell) / "metrics.json" for cell in cells(study)],
    output:
        report(
            layout.report / "runs.csv",
            caption="../report/runs.rst",
            category="Tables",
        ),
    log:
        log_of(layout.report / "collect"),
    benchmark:
        times_of(layout.report / "collect")
    conda:
        environment
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        study=layout.study,
    shell:
        "oba collect --study {params.study} > {log} 2>&1"


rule report:
    input:
        layout.report / "runs.csv",
        [layout.structures(model) for model in models_by_slug(study)],
        [layout.net(cell) / "plan.json" for cell in cells(study)],
        [layout.net(cell) / "history.csv" for cell in cells(study)],
    output:
        report(
            layout.report / "summary.csv",
            caption="../report/summary.rst",
            category="Tables",
        ),
        layout.report / "summary.md",
        report(
            layout.report / "tradeoff.png",
            caption="../report/tradeoff.rst",
            category="Pictures",
        ),
        report(
            layout.report / "channels.png",
            caption="../report/channels.rst",
            category="Pictures",
        ),
        report(
            layout.report / "curves.png",
            caption="../report/curves.rst",
            category="Pictures",
        ),
    log:
        log_of(layout.report / "report"),
    benchmark:
        times_of(layout.report / "report")
    conda:
        environment
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        first=study.criteria[0],
        study=layout.study,
    shell:
        "oba report --study {params.study} > {log} 2>&1"
