#!/usr/bin/env bash
# Snakemake 9.27.1: sent SIGTERM, it waits until its running jobs have ended by themselves.
# Expected by batch systems, which send SIGTERM and, half a minute later, SIGKILL: the signal reaches the jobs, so that
# they can save their work. Seen: the job never hears of it, and Snakemake ends when the job does.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env && env/bin/pip -q --disable-pip-version-check install snakemake==9.27.1
cat > Snakefile << 'SNAKEFILE'
rule all:
    output: "done"
    shell: "trap 'touch heard' TERM; touch started; for i in $(seq 20); do sleep 1; done; touch done"
SNAKEFILE
env/bin/snakemake --version
env/bin/snakemake --cores 1 > log 2>&1 &
until [ -e started ]; do sleep 0.2; done
kill -TERM $!
begin=$SECONDS
wait $! || true
seconds=$((SECONDS - begin))
heard=no; [ ! -e heard ] || heard=yes
ended=$([ -e done ] && echo yes || echo no)
echo "Snakemake ended $seconds s after SIGTERM; the job ran to its end: $ended; it got the signal: $heard"
[ "$seconds" -ge 15 ] && [ "$heard" = no ] || { echo "CHANGED"; exit 1; }
