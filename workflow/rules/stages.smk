# One rule for each stage of oba.dag, or for stages that run together: see oba.jobs.

for of in jobs.rules:

    rule:
        name:
            of.name
        input:
            unpack(inputs(of)),
        output:
            of.outputs(layout, pattern(of)),
        log:
            log_of(of.record(layout, pattern(of))),
        benchmark:
            layout.times(of.record(layout, pattern(of)))
        priority: of.priority
        conda:
            "../../environment.yml"
        threads: most(of, lambda stage: per_stage("threads", stage) * per_stage("gpus", stage))
        resources:
            gpu=(
                most(of, lambda stage: per_stage("gpus", stage))
                if of.gpu and study.runtime.device != "cpu"
                else 0
            ),
        params:
            command=of.command,
            options=of_job(of, of.options),
            settings=of_job(of, partial(jobs.settings, of)),
            code=of_job(of, partial(jobs.code, of)),
            seen=seen(of),
            study=layout.study,
        shell:
            "exec oba {params.command} --study {params.study} {params.options} > {log} 2>&1"
