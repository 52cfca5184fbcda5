# One level of a chain: prune the net before it, train it on, measure it; and its control from scratch.


rule prune:
    input:
        layout.data / "data.json",
        split_file,
        structures_file,
        start_files,
    output:
        [level_dir / "pruned" / name for name in NET_FILES],
    log:
        log_of(level_dir / "pruned"),
    benchmark:
        times_of(level_dir / "pruned")
    conda:
        environment
    threads: study.threads.prune
    resources:
        mem_mb=8000,
        runtime=720,
        gpu=gpus,
    params:
        settings=settings("prune"),
        code=code("prune"),
        study=layout.study,
    shell:
        "oba prune --study {params.study} --model {wildcards.model} --seed {wildcards.seed}"
        " --criterion {wildcards.criterion} --schedule {wildcards.schedule} --keep {wildcards.keep} > {log} 2>&1"


rule finetune:
    input:
        layout.data / "data.json",
        split_file,
        [level_dir / "pruned" / name for name in NET_FILES[:3]],
    output:
        [level_dir / "finetuned" / name for name in TRAINED_FILES],
    log:
        log_of(level_dir / "finetuned"),
    benchmark:
        times_of(level_dir / "finetuned")
    conda:
        environment
    threads: study.threads.finetune
    resources:
        mem_mb=8000,
        runtime=2880,
        gpu=gpus,
    params:
        settings=settings("finetune"),
        code=code("finetune"),
        study=layout.study,
    shell:
        "oba finetune --study {params.study} --model {wildcards.model} --seed {wildcards.seed}"
        " --criterion {wildcards.criterion} --schedule {wildcards.schedule} --keep {wildcards.keep} > {log} 2>&1"


rule scratch:
    input:
        layout.data / "data.json",
        split_file,
        level_dir / "pruned" / "plan.json",
        level_dir / "finetuned" / "metrics.json",
    output:
        [level_dir / "scratch" / name for name in TRAINED_FILES],
    log:
        log_of(level_dir / "scratch"),
    benchmark:
        times_of(level_dir / "scratch")
    conda:
        environment
    threads: study.threads.finetune
    resources:
        mem_mb=8000,
        runtime=2880,
        gpu=gpus,
    params:
        settings=settings("scratch"),
        code=code("scratch"),
        study=layout.study,
    shell:
        "oba scratch --study {params.study} --model {wildcards.model} --seed {wildcards.seed}"
        " --criterion {wildcards.criterion} --schedule {wildcards.schedule} --keep {wildcards.keep} > {log} 2>&1"


rule evaluate:
    input:
        dense_dir / "evaluation.json",
        layout.data / "data.json",
        split_file,
        [level_dir / "{variant}" / name for name in NET_FILES[:2]],
    output:
        level_dir / "{variant}" / "evaluation.json",
        level_dir / "{variant}" / "evaluation-run.json",
    log:
        log_of(level_dir / "{variant}-evaluation"),
    benchmark:
        times_of(level_dir / "{variant}-evaluation")
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
        " --criterion {wildcards.criterion} --schedule {wildcards.schedule} --keep {wildcards.keep}"
        " --variant {wildcards.variant} > {log} 2>&1"
