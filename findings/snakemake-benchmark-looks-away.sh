#!/usr/bin/env bash
# Snakemake 9.27.1: the `benchmark` of a job of 40 s misses most of its memory and most of its computing time.
# Expected: `max_rss` is the job's peak, and `cpu_time` what it has computed. Seen: the job's processes are looked at
# 31 times in the first 16 s, from then on every 30 s, and not when the job ends. What a job takes in between does not
# count: half a GB from the 20th second on is 16 MB in the table, 40 s of computing are 16 s, and the mean load of a
# busy core is below a half. The wall clock time is right. Nothing is reported, and shorter tests come out right.
# The manual says that the CPU time, memory and load of the command are measured, and not that they are sampled. It is
# known for the memory (issue 851 of snakemake/snakemake).
# It matters to trainings, which take memory after the data are loaded: a memory limit from such a table stops them, and
# a comparison of costs by `cpu_time` or `mean_load` compares when the jobs were looked at.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install snakemake==9.27.1
cat > job.py << 'PYTHON'
import resource
import sys
import time

seconds, start = float(sys.argv[1]), time.monotonic()


def compute(until):
    while time.monotonic() - start < until:
        pass


compute(seconds / 2)
memory = bytearray(b"1") * 500 * 2**20
compute(seconds)
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
PYTHON
cat > Snakefile << 'SNAKEMAKE'
rule job:
    output: "{seconds}.txt"
    benchmark: "{seconds}.tsv"
    shell: "python3 job.py {wildcards.seconds} > {output}"
SNAKEMAKE
echo "Snakemake $(env/bin/snakemake --version)"
env/bin/snakemake --quiet all --cores 1 -- 8.txt 40.txt 2> errors || { cat errors; exit 1; }
cat > compare.py << 'PYTHON'
import csv
import sys

shares = {}
for seconds in (8, 40):
    used, peak = map(float, open(f"{seconds}.txt").read().split())
    row = next(csv.DictReader(open(f"{seconds}.tsv"), delimiter="\t"))
    shares[seconds] = float(row["max_rss"]) * 1024 / peak, float(row["cpu_time"]) / used
    print(f"a job of {float(row['s']):.0f} s: it took {peak / 1024:.0f} MB and {used:.1f} s of a core, ", end="")
    print(f"its benchmark says {row['max_rss']} MB, {row['cpu_time']} s and a load of {row['mean_load']}%")
short, long = shares[8], shares[40]
sys.exit(int(not (short[0] > 0.9 and short[1] > 0.8 and long[0] < 0.1 and long[1] < 0.7)))
PYTHON
env/bin/python compare.py || { echo "CHANGED"; exit 1; }
