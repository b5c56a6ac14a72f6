#!/usr/bin/env bash
# Snakemake 9.27.1: a job that fails while it updates a file counts as done in the next run.
# Expected: what a failed job had to do is done by the next run, as without `update`. Seen: the output of a failed job
# is removed, so that the job runs again; but a file that is marked by `update` is restored, with the time of the
# failure as its time of modification. So it is newer than the input that it lacks. The parameters and the code of the
# failed job are noted as those of the file, too. The next run says "Nothing to be done (all requested files are present
# and up to date)" with exit status 0, and so does `--rerun-incomplete`; `--summary` has "ok" and "no update". The new
# measurement is never added, and the result stays that of the old learning rate. A job that failed by a mistake in its
# own rule runs again once the rule is mended, since its code changes, so that a first try may find it in order.
# The manual says that Snakemake restores the previous version of the file if the job fails, and nothing about the job.
# We found no report. That `--keep-incomplete` keeps output which counts as complete is issue 3808 of
# snakemake/snakemake.
# It matters to tables that grow by one measurement after another: one that failed for lack of memory is never missed.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install snakemake==9.27.1
cat > Snakefile << 'SNAKEMAKE'
configfile: "config.yaml"

rule all:
    input: "plain.csv", "updated.csv", "setting.txt"

rule plain:
    input: "new.csv"
    output: "plain.csv"
    shell: "cat {input} > {output}; test ! -e out-of-memory"

rule add:
    input: "new.csv"
    output: update("updated.csv")
    shell: "cat {input} >> {output}; test ! -e out-of-memory"

rule train:
    output: update("setting.txt")
    params: lr=config["lr"]
    shell: "echo trained with lr={params.lr} > {output}; test ! -e out-of-memory"
SNAKEMAKE
snakemake() { env/bin/snakemake --cores 1 --keep-going "$@" > said 2>&1; }
show() { echo "$1: updated.csv has $(paste -sd ' ' updated.csv), $(cat setting.txt)"; }
is() { [ "$1" = "$2" ] || { cat said; echo "CHANGED: $1"; exit 1; }; }
echo "Snakemake $(env/bin/snakemake --version)"
echo "lr: 0.1" > config.yaml
echo seed-0 > new.csv
snakemake || { cat said; exit 1; }
show "first run"
sleep 1
echo "lr: 0.9" > config.yaml
echo seed-1 > new.csv
touch out-of-memory
if snakemake; then echo "CHANGED"; exit 1; fi
show "seed 1 and learning rate 0.9, all three jobs fail"
rm out-of-memory
snakemake || { cat said; exit 1; }
show "next run, where nothing fails"
grep "^rule\|^localrule\|reason:\|steps.*done" said
is "$(grep -E -o '^(local)?rule \w+' said | paste -sd ' ')" "localrule plain localrule all"
is "$(cat plain.csv)" seed-1
is "$(paste -sd ' ' updated.csv), $(cat setting.txt)" "seed-0, trained with lr=0.1"
snakemake --rerun-incomplete || { cat said; exit 1; }
echo "and another with --rerun-incomplete: $(grep 'Nothing to be done' said)"
is "$(paste -sd ' ' updated.csv), $(cat setting.txt)" "seed-0, trained with lr=0.1"
env/bin/snakemake --summary 2> said | tee summary
is "$(grep -c 'ok.no update' summary)" 3
