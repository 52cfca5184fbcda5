# The images: read once, divided once per seed.


rule prepare:
    output:
        layout.data / "data.json",
        layout.data / "labels.npy",
        layout.data / "run.json",
    log:
        log_of(layout.data / "prepare"),
    benchmark:
        times_of(layout.data / "prepare")
    conda:
        environment
    threads: 2
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        settings=settings("prepare"),
        code=code("prepare"),
        study=layout.study,
    shell:
        "oba prepare --study {params.study} > {log} 2>&1"


rule split:
    input:
        layout.data / "data.json",
        layout.data / "labels.npy",
    output:
        split_file,
        split_file.with_name("split-seed{seed}-run.json"),
    log:
        log_of(split_file),
    benchmark:
        times_of(split_file)
    conda:
        environment
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=settings("split"),
        code=code("split"),
        study=layout.study,
    shell:
        "oba split --study {params.study} --seed {wildcards.seed} > {log} 2>&1"
