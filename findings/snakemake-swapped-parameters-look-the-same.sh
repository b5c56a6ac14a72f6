#!/usr/bin/env bash
# Snakemake 9.27.1: a job is not done again if its parameters have traded values, or one took the value of another.
# Expected: changed `params` are one of the triggers that, says the help, guarantee results consistent with code and
# configuration. Seen: Snakemake remembers the values of a rule's `params` without their names, and compares them as a
# set. Between batch=64, width=128, depth=128 and any other mixture of 64 and 128 there is "nothing to be done". A
# value that was not there before is noticed, so that a first try of the trigger finds it in order.
# It matters to a study that keeps its settings in `params`: with the batch size raised to the 128 that is also the
# width, or with the sizes of training and test set swapped, the old result stands as that of the new settings.
# One parameter that holds all of them, such as a dictionary, is compared with its names.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install snakemake==9.27.1
cat > Snakefile <<'SNAKEMAKE'
settings = {name: int(config[name]) for name in ("batch", "width", "depth")}

rule apart:
    output: "apart"
    params: batch=settings["batch"], width=settings["width"], depth=settings["depth"]
    shell: "echo {params.batch} {params.width} {params.depth} > {output}"

rule together:
    output: "together"
    params: all=settings
    shell: "echo {params.all[batch]} {params.all[width]} {params.all[depth]} > {output}"
SNAKEMAKE
run() {
    env/bin/snakemake --quiet all --cores 1 --config batch="$1" width="$2" depth="$3" -- apart together 2> errors
    echo "asked for batch $1, width $2, depth $3: $(cat apart) with a parameter each, $(cat together) with one for all"
    seen+="$(cat apart)/$(cat together) "
}
echo "Snakemake $(env/bin/snakemake --version)"
seen=""
run 64 128 128
run 128 128 64
run 64 64 128
run 32 64 128
[ "$seen" = "64 128 128/64 128 128 64 128 128/128 128 64 64 128 128/64 64 128 32 64 128/32 64 128 " ] ||
    { cat errors; echo "CHANGED"; exit 1; }
