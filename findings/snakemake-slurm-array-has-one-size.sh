#!/usr/bin/env bash
# snakemake-executor-plugin-slurm 2.8.0 with Snakemake 9.27.1: with `--slurm-array-jobs`, a measurement with 1, 4 and 16
# threads gets the same number of CPUs for each.
# Expected: each job gets the CPUs, the memory and the time that its rule asks for, or jobs that ask for different ones
# are no array. Seen: all jobs of a rule are one array, which asks for what the first of them needs; which one is first
# depends on the scheduler of Snakemake. Its log goes on stating each job's own threads and memory, and warns of one
# thing about the array: that its jobs share a comment. Without the option each job asks for its own; with it, jobs that
# need the same are right, so that a first try finds arrays in order.
# The manual says that group jobs cannot be array jobs, and that all jobs of the rule must be ready; nothing about what
# they ask for. A comment in the code says "all jobs have the same resource requirement", and nothing checks it. We
# found no issue about it; arrays came with pull request 174 of snakemake/snakemake-executor-plugin-slurm.
# It needs no Slurm: `sbatch` is a stand-in here, which notes what it is asked for, and refuses.
# It matters to all measurements of scaling, whose points then are of one allocation, and to sweeps over sizes of
# networks: the large ones get the time and the memory of a small one.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install snakemake==9.27.1 snakemake-executor-plugin-slurm==2.8.0 snakemake-executor-plugin-slurm-jobstep==0.6.1
cat > Snakefile << 'SNAKEMAKE'
rule all:
    input: expand("{number}.txt", number=[1, 4, 16])

rule measure:
    output: "{number}.txt"
    threads: lambda wildcards: int(wildcards.number)
    resources:
        mem_mb=lambda wildcards: 1000 * int(wildcards.number),
        runtime=lambda wildcards: 60 // int(wildcards.number),
    shell: "echo {threads} > {output}"
SNAKEMAKE
mkdir bin
cat > bin/sbatch << 'SBATCH'
#!/usr/bin/env bash
echo "$*" | sed -E 's/ --wrap.*//; s/.*-t ([0-9]+) --mem ([0-9]+) .*--cpus-per-task=([0-9]+)/\3 CPUs, \2 MB, \1 min,/' |
    sed -E 's/ -D \S+//' >> "$NOTES"
echo "a stand-in that runs nothing" >&2
exit 1
SBATCH
for name in scontrol sacct sacctmgr sinfo squeue scancel; do printf '#!/bin/sh\n' > bin/$name; done
chmod +x bin/*
export PATH=$PWD/bin:$PATH
run() {
    export NOTES=$PWD/notes-$#
    env/bin/snakemake --executor slurm --jobs 9 --keep-going --slurm-no-account \
        --slurm-init-seconds-before-status-checks 1 "$@" > said 2>&1 && { echo "CHANGED"; exit 1; }
    [ -e "$NOTES" ] || { cat said; exit 1; }
    echo "Slurm is asked, ${*:-without arrays}:" && sort -n "$NOTES"
}
version() { env/bin/python -c "from importlib import metadata as m; print('$1', m.version('$1'))"; }
version snakemake
version snakemake-executor-plugin-slurm
run
[ "$(sort -n notes-0)" = $'1 CPUs, 1000 MB, 60 min,\n4 CPUs, 4000 MB, 15 min,\n16 CPUs, 16000 MB, 3 min,' ] ||
    { cat said; echo "CHANGED"; exit 1; }
run --slurm-array-jobs=measure
echo "while the log of Snakemake says:"
log=$(grep -E '^    (threads|resources):' said | sed -E 's/tmpdir=\S+ //; s/, mem=.*//')
echo "$log"
# It adds 1 MB for the commands of the array.
grep -qxE '(1 CPUs, 1001 MB, 60|4 CPUs, 4001 MB, 15|16 CPUs, 16001 MB, 3) min, --array=1-3' notes-1 &&
    [ "$(wc -l < notes-1)" = 1 ] && [ "$(grep -cE 'mem_mb=(1|4|16)000' <<< "$log")" = 3 ] ||
    { cat said notes-1; echo "CHANGED"; exit 1; }
