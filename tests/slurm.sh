#!/usr/bin/env bash
# The sweep `smoke` on Slurm itself, on this machine: what book/cluster.md shows, checked. Takes minutes; not part of `make test`.
#   tests/slurm.sh [EXPERIMENT...]         all of them by default
# Needs root, the Debian packages slurmctld, slurmd, slurm-client and munge, and in PYTHON's environment (default:
# .venv/bin/python) snakemake-executor-plugin-slurm. All files go to a temporary folder, which is removed, except for
# /etc/slurm/slurm.conf, which must not exist: the plugin's jobs do not inherit the variable SLURM_CONF.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
experiments=("$@")
folder=$(mktemp -d /tmp/slurm-test.XXXXXX)
conf=/etc/slurm/slurm.conf
export MLPLIB_RUNS=$folder/runs OMP_NUM_THREADS=1

heading() { printf '\n== %s\n' "$*"; }
mlplib() { "$python" -m mlplib "$@"; }
status() { mlplib status "${experiments[@]}" --profile smoke "$@"; }
fail() { echo "slurm.sh: $*" >&2; exit 1; }

end() {
    scancel --user="$(id -un)" 2> /dev/null || true
    jobs -p | xargs -r kill 2> /dev/null || true
    for daemon in slurmd.pid slurmctld.pid munge/pid; do
        [ ! -f "$folder/$daemon" ] || kill "$(cat "$folder/$daemon")" || true
    done
    sleep 2
    rm -rf "$folder" "$conf"
}
[ ! -e "$conf" ] || fail "$conf exists: this is for a machine without Slurm's settings"
trap end EXIT

heading "munged, slurmctld and slurmd on loopback"
mkdir "$folder"/{state,spool,munge}
chmod 755 "$folder"
chown munge "$folder/munge"
host=$(hostname -s)
cat > "$conf" <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=$(free -m | awk '/^Mem/ {print $2}')
PartitionName=all Nodes=ALL Default=YES State=UP
CONF
setpriv --reuid munge --regid munge --clear-groups munged --key-file=/etc/munge/munge.key \
    --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" \
    --seed-file="$folder/munge/seed"
slurmctld
slurmd
timeout 60 bash -c 'until [ "$(sinfo -h -o %T)" = idle ]; do sleep 0.5; done' || fail "no idle node: $(sinfo)"
sinfo

# The process that trains a network now, once there is one: its run's id begins with the name of the network.
training() {
    timeout 900 "$python" -c '
import json, re, sys, time
from pathlib import Path
while True:
    for path in Path(sys.argv[1]).glob("[bs]*wi*/.attempt.json"):
        try: sys.exit(print(re.search(r"process (\d+)", json.loads(path.read_text())["where"])[1]))
        except (OSError, ValueError): pass
    time.sleep(0.01)' "$MLPLIB_RUNS"
}

heading "one task, preempted: SIGTERM lets it write a checkpoint"
work=(mlplib run "${experiments[@]}" --profile smoke --minutes 60)
srun --job-name=preempted --ntasks=1 "$python" -m "${work[@]}" > "$folder/first.txt" 2>&1 &
training > /dev/null
scancel --name=preempted
wait $! && fail "it was not stopped"
cat "$folder/first.txt"
status

heading "two tasks on one store, one of their workers killed"
srun --ntasks=2 --label "$python" -m "${work[@]}" > "$folder/second.txt" 2>&1 &
kill -KILL "$(training)"
wait $! || { cat "$folder/second.txt"; fail "the tasks failed"; }
grep -E 'SIGKILL|done, ' "$folder/second.txt"
grep -q 'continuing from its last checkpoint' "$folder/second.txt" || fail "nobody was killed"
status
status --json | "$python" -c '
import json, sys
found = json.load(sys.stdin)
sys.exit("not all is done" if found["left"] or found["failed"] or found["running"] else 0)'
twice=$(grep -o '[a-z0-9-]*: done in' "$folder/second.txt" | sort | uniq -d)
[ -z "$twice" ] || fail "done twice: $twice"

heading "one run by two processes that torchrun starts in two tasks, as on two nodes"
mlplib plan from-scratch --profile smoke --json | "$python" -c '
import json, sys
runs = [run["spec"] for run in json.load(sys.stdin)["runs"] if run["kind"] == "train"]
print(json.dumps(runs[0] | {"seed": 77}))' > "$folder/spec.json"
srun --ntasks=2 "$python" -m torch.distributed.run --nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d \
    --rdzv-endpoint=127.0.0.1:29517 --rdzv-id=1 -m mlplib.run "$folder/spec.json" 2>&1 | grep -v '^ *$'

heading "Snakemake's executor: two workers do the runs, then chapters are executed"
export MLPLIB_RUNS=$folder/runs-2
chapters=()
for name in "${experiments[@]}"; do chapters+=("$folder/book/chapters/$name.ipynb"); done
"$python" -m snakemake --profile profiles/slurm --slurm-no-account --slurm-status-command squeue \
    --slurm-init-seconds-before-status-checks 3 --default-resources mem_mb=1000 runtime=60 \
    --set-resources worker:mem_mb=1000 --latency-wait 5 --quiet rules host \
    --config profile=smoke workers=2 threads=1 minutes=50 out="$folder/book" -- "${chapters[@]}"
status
ls -l "$folder/book/chapters"
heading "all as expected"
