#!/usr/bin/env bash
# marimo 0.25.2: a Jupyter notebook, converted by `marimo convert`, reports the last accuracy as the best and a third of
# the mean, without a message.
# Expected: the numbers of the notebook, or a refusal, since in marimo no variable can be defined in two cells. Seen: a
# variable that a later cell changes gets a new name there, and what is read gets the old one, also in a loop:
# `best = max(best, accuracy)` becomes `best_1 = max(best, _accuracy)`, where `best` is always that of the start. Sums
# by `+=`, means, moving averages and the maximum by `if` are all those of the last round alone. Without a loop, as in
# `rate = rate / 10`, the result is right, and so it is if the start value and the loop are in one cell. The exit status
# is 0, and `marimo check` finds nothing in the new file.
# The manual says how to rename variables by hand. The renaming was added in pull request 2422, and issues about it are
# about names; we found none about loops.
# It matters to notebooks with a cell that sets a start value and a cell that trains or evaluates: accuracies over
# batches, best epochs and losses over seeds are plausible numbers, and the notebook's own outputs are not converted.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install marimo==0.25.2 nbformat==5.11.1
cat > notebook.py << 'PYTHON'
import nbformat
from nbformat.v4 import new_code_cell, new_notebook

CELLS = """accuracies = [70.2, 73.5, 71.4]
best = top = total = mean = smooth = 0
rate = 0.1
#
for accuracy in accuracies:
    best = max(best, accuracy)
#
for accuracy in accuracies:
    if accuracy > top:
        top = accuracy
#
for accuracy in accuracies:
    total += accuracy
#
for accuracy in accuracies:
    mean = mean + accuracy / len(accuracies)
#
for accuracy in accuracies:
    smooth = 0.5 * smooth + 0.5 * accuracy
#
rate = rate / 10
#
numbers = {"best": best, "top": top, "total": total, "mean": mean, "smooth": smooth, "rate": rate}
print({name: round(number, 2) for name, number in numbers.items()})"""
if __name__ == "__main__":
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in CELLS.split("\n#\n")]), "notebook.ipynb")
    exec(CELLS, {})
PYTHON
env/bin/python notebook.py > jupyter
env/bin/marimo convert notebook.ipynb -o converted.py < /dev/null > said 2>&1 || { cat said; exit 1; }
env/bin/marimo check converted.py < /dev/null > checked 2>&1 || { echo CHANGED; cat checked; exit 1; }
env/bin/python converted.py > marimo 2> said || { cat said; exit 1; }
cat > compare.py << 'PYTHON'
import ast
import sys
from importlib import metadata

before, after = (ast.literal_eval(open(name).read()) for name in ("jupyter", "marimo"))
print("marimo", metadata.version("marimo"))
print("notebook: ", before)
print("converted:", after, "marimo check:", open("checked").read().strip() or "nothing found")
right = {"best": 73.5, "top": 73.5, "total": 215.1, "mean": 71.7, "smooth": 62.85, "rate": 0.01}
wrong = {"best": 71.4, "top": 71.4, "total": 71.4, "mean": 23.8, "smooth": 35.7, "rate": 0.01}
if not (before == right and after == wrong and not open("checked").read().strip()):
    sys.exit("CHANGED")
PYTHON
env/bin/python compare.py || { cat said checked converted.py; exit 1; }
