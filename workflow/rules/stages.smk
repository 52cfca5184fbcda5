# One rule for each stage of oba.dag: prepare, split, trace, dense, evaluate_dense, prune, finetune, scratch, evaluate.

for stage in STAGES.values():

    rule:
        name:
            stage.name
        input:
            unpack(inputs(stage)),
        output:
            stage.writes(layout, pattern(stage)),
        log:
            log_of(stage.record(layout, pattern(stage))),
        benchmark:
            times_of(stage.record(layout, pattern(stage)))
        priority: stage.priority
        conda:
            "../../environment.yml"
        threads: per_stage(study.threads, stage) * per_stage(study.gpus, stage)
        resources:
            gpu=(
                per_stage(study.gpus, stage)
                if stage.gpu and study.runtime.device != "cpu"
                else 0
            ),
        params:
            command=stage.module,
            options=options(stage),
            settings=settings(stage),
            code=code(stage),
            seen=seen(stage),
            study=layout.study,
        shell:
            "exec oba {params.command} --study {params.study} {params.options} > {log} 2>&1"
