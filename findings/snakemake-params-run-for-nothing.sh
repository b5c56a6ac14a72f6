#!/usr/bin/env bash
# Snakemake 9.27.1 calls the function of a job's `params` twice if the job runs, and once if nothing is to be done, also
# where parameters are no reason to run a job.
# Expected: one call for each job that runs, and with `--rerun-triggers mtime`, where only files' times decide, none if
# all is up to date. Seen: 40 calls for 20 jobs that run, and 20 before "Nothing to be done", whatever triggers a job,
# in a dry run and for `--summary`, too. Only jobs of targets that are not asked for are spared. They are made for the
# environment of each job, in rules that name none.
# It matters where such a function reads a table or a file: with a second for each of a thousand jobs, "Nothing to be
# done" takes a quarter of an hour. And a function with a random or a changing value gives the job another one than the
# graph was made with. A cache around what is slow helps (`functools.cache`, by the names of the wildcards).
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install snakemake==9.27.1
cat > Snakefile <<'SNAKEMAKE'
def settings(wildcards):
    with open("calls", "a") as file:
        print(wildcards.run, file=file)
    return "settings"

rule all:
    input: expand("{run}.txt", run=range(20))

rule train:
    output: "{run}.txt"
    params: settings
    shell: "echo {params} > {output}"
SNAKEMAKE
echo "Snakemake $(env/bin/snakemake --version)"
seen=""
calls() {
    : > calls
    env/bin/snakemake --cores 1 "$@" > said 2>&1
    nothing=no
    ! grep -qi "nothing to be done" said || nothing=yes
    echo "$(wc -l < calls) calls by snakemake --cores 1 $*; nothing to be done: $nothing"
    seen+="$(($(wc -l < calls)))/$nothing "
}
calls
calls
calls --rerun-triggers mtime
calls --rerun-triggers mtime --dry-run
calls -- 0.txt
calls --list-rules
[ "$seen" = "40/no 20/yes 20/yes 20/yes 1/yes 0/no " ] || { cat said; echo "CHANGED"; exit 1; }
