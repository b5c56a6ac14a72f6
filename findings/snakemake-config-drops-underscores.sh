#!/usr/bin/env bash
# Snakemake 9.27.1: `--config out=2026_11_30` is the number 20261130, and quotes, as the manual has them, do not help.
# Expected: a value with underscores or leading zeros is text; or text at least in quotes within quotes, '"2026_11_30"',
# by which the manual's questions and answers make a value text, says issue 3650. Seen: a value that Python reads as a
# whole number or a fraction becomes one, and the quotes are taken off before that. Results land in the folder 20261130,
# those of out=2026_11_03 and out=2026_1_103 in one and the same, out=007 is 7, and a commit such as 7e85113 is
# infinity. There is no warning. A YAML file with quotes is right, without them it drops underscores as well;
# `./2026_11_30` is text.
# It is known: that issue of snakemake/snakemake (2025, open) says that quotes worked in 7.8.1, and in issue 2431 (2023,
# closed) the underscores count as Python's syntax of numbers.
# It matters to results that are kept by date: they are where nobody looks, and may replace others.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install snakemake==9.27.1
cat > Snakefile <<'SNAKEMAKE'
rule result:
    output: f"results/{config['out']}/accuracy"
    shell: "echo 71.2 > {output}"
SNAKEMAKE
run() {
    env/bin/snakemake --quiet all --cores 1 "$@" 2> errors || { cat errors; echo "CHANGED"; exit 1; }
    folder=$(ls results)
    rm -r results
    echo "$*: results/$folder"
    seen+="$folder "
}
echo "Snakemake $(env/bin/snakemake --version)"
echo 'out: "2026_11_30"' > quoted.yaml
echo 'out: 2026_11_30' > plain.yaml
seen=""
run --config out=2026_11_30
run --config 'out="2026_11_30"'
run --config "out='2026_11_30'"
run --config out=007
run --config out=7e85113
run --configfile plain.yaml
run --configfile quoted.yaml
run --config out=./2026_11_30
[ "$seen" = "20261130 20261130 20261130 7 inf 20261130 2026_11_30 2026_11_30 " ] || { echo "CHANGED"; exit 1; }
