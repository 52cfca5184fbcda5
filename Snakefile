# The pipeline: data → dense net → (prune → fine-tune → evaluate) for each level → report.
# Study: config/config.yaml, or any other with --configfile. Machine: profiles/.
from snakemake.utils import min_version

min_version("9.14.1")

if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/stages.smk"
include: "workflow/rules/report.smk"


rule all:
    input:
        rules.collect.output,
        rules.report.output,
        overlooked,


onstart:
    # With its limit on how many jobs start in a second, and while jobs wait, Snakemake 9 keeps a timer for every job that
    # has ended, and each looks at all open jobs once a second. On one machine nothing needs that limit.
    if not on_cluster:
        workflow.scheduler.job_rate_limiter = None
    remember_host(Path.cwd())
    remember_run(Path.cwd(), sys.argv[1:], layout.study, log)
    write_json(layout.study, dump_study(study))
    validate_nets(workflow.dag.needrun_jobs())
    jobs.remember(finished=False)
    shell(f"oba begin --study {layout.study}")


onsuccess:
    leave_terminal()
    jobs.remember(finished=True)
    shell(f"oba end --study {layout.study}")
    if (layout.report / "summary.md").exists():
        shell(f"oba show --study {layout.study}")


onerror:
    stopped = leave_terminal()
    of = f"--study {layout.study}"
    if stopped:  # by somebody who waits for the prompt
        shell(f"oba end {of}")
    else:
        # What finished is worth a table. What failed is said again, at the end of everything.
        shell(
            f"if oba collect {of} && oba report {of}; then table=show; else table=; fi; oba end {of} || true; "
            f"for command in $table failed; do oba $command {of} || true; done"
        )
