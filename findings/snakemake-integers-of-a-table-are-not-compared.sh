#!/usr/bin/env bash
# Snakemake 9.27.1 with pandas 3.1.1: a job is not done again if an integer that its `params` take from a table changes.
# Expected: changed `params` are one of the triggers that, says the help, guarantee results consistent with code and
# configuration. Seen: only values of Python's own types are remembered and compared, all others are left out without a
# word. A table's cell that holds a fraction or a text is of such a type; an integer is NumPy's int64 and a truth value
# its bool, which are not. With a learning rate changed the job runs again, with the number of epochs changed there
# is "nothing to be done". The same goes for arrays, dates, paths, enumerations and dataclasses.
# Neither the help nor the manual's section on `params` names types. `lookup` with a query gives a list, which is
# compared, and `int(...)` around the cell helps.
# It matters to a study whose runs are rows of a table, as in most workflows: a first try with the learning rate finds
# the trigger in order, and later the results of 10 epochs stand in the report as those of 20.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install snakemake==9.27.1 pandas==3.1.1 numpy==2.4.6
cat > Snakefile <<'SNAKEMAKE'
import pandas as pd

runs = pd.read_csv("runs.csv", index_col="run")

def cell(column):
    return lambda wildcards: runs.loc[wildcards.run, column]

rule train:
    output: "{run}.txt"
    params: rate=cell("rate"), optimizer=cell("optimizer"), epochs=cell("epochs"), flip=cell("flip")
    shell: "echo {params.rate},{params.optimizer},{params.epochs},{params.flip} > {output}"

rule train_by_int:
    output: "{run}.int"
    params: rate=cell("rate"), epochs=lambda wildcards: int(runs.loc[wildcards.run, "epochs"])
    shell: "echo {params.epochs} > {output}"
SNAKEMAKE
run() {
    printf '%s\n' run,rate,optimizer,epochs,flip "first,$1" > runs.csv
    env/bin/snakemake --quiet all --cores 1 -- first.txt first.int 2> errors
    echo "the table says $1: the result is that of $(cat first.txt); epochs by int(...): $(cat first.int)"
    seen+="$(cat first.txt)/$(cat first.int) "
}
echo "Snakemake $(env/bin/snakemake --version), pandas $(env/bin/python -c 'import pandas; print(pandas.__version__)')"
seen=""
run 0.1,sgd,10,True
run 0.1,sgd,20,True
run 0.1,sgd,20,False
run 0.2,sgd,20,False
run 0.2,lion,30,False
run 0.2,lion,40,True
[ "$seen" = "0.1,sgd,10,True/10 0.1,sgd,10,True/20 0.1,sgd,10,True/20 0.2,sgd,20,False/20 $(
    )0.2,lion,30,False/30 0.2,lion,30,False/40 " ] || { cat errors; echo "CHANGED"; exit 1; }
