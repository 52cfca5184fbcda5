# Once per architecture: what may go, and whether the levels can be reached. Once per seed: the dense net.


rule structures:
    input:
        layout.data / "data.json",
    output:
        structures_file,
        structures_file.with_name("structures-run.json"),
    log:
        log_of(structures_file),
    benchmark:
        times_of(structures_file)
    priority: 20
    conda:
        environment
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=settings("structures"),
        code=code("structures"),
        study=layout.study,
    shell:
        "oba structures --study {params.study} --model {wildcards.model} > {log} 2>&1"


rule check:
    input:
        layout.data / "data.json",
        structures_file,
    output:
        structures_file.with_name("check.json"),
    log:
        log_of(structures_file.with_name("check")),
    benchmark:
        times_of(structures_file.with_name("check"))
    priority: 20
    conda:
        environment
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=settings("check"),
        code=code("check"),
        study=layout.study,
    shell:
        "oba check --study {params.study} --model {wildcards.model} > {log} 2>&1"


rule dense:
    input:
        layout.data / "data.json",
        split_file,
        weights=lambda wildcards: (
            [] if study.dense.source in {"train", "pretrained"} else study.dense.source
        ),
    output:
        [dense_dir / name for name in TRAINED_FILES],
    log:
        log_of(dense_dir / "dense"),
    benchmark:
        times_of(dense_dir / "dense")
    priority: 10
    conda:
        environment
    threads: study.threads.dense
    resources:
        mem_mb=8000,
        runtime=2880,
        gpu=gpus,
    params:
        settings=settings("dense"),
        code=code("dense"),
        study=layout.study,
    shell:
        "oba dense --study {params.study} --model {wildcards.model} --seed {wildcards.seed} > {log} 2>&1"


rule evaluate_dense:
    input:
        layout.data / "data.json",
        split_file,
        [dense_dir / name for name in NET_FILES[:2]],
    output:
        dense_dir / "evaluation.json",
        dense_dir / "evaluation-run.json",
    log:
        log_of(dense_dir / "evaluation"),
    benchmark:
        times_of(dense_dir / "evaluation")
    conda:
        environment
    threads: study.threads.evaluate
    resources:
        mem_mb=8000,
        runtime=120,
        gpu=gpus,
    params:
        settings=settings("evaluate"),
        code=code("evaluate"),
        study=layout.study,
    shell:
        "oba evaluate --study {params.study} --model {wildcards.model} --seed {wildcards.seed}"
        " --variant dense > {log} 2>&1"
