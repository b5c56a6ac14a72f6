#!/usr/bin/env bash
# nbdime 4.0.4: a merge of two executed notebooks has a table of results that no run had, and reports no conflict.
# Expected: a conflict where both branches executed a cell again and its outputs differ; for the same three files, plain
# git reports one. Seen: outputs are merged like code, line by line, and even adjacent lines count as independent. Of a
# printed table, one row is from one branch and the next from the other; of a table in HTML, where each number has a
# line, the loss is from one branch and the accuracy from the other. The merged code, with the learning rate of one
# branch and the width of the other, was never run. The exit status is 0, and the execution counts are as after a run
# from top to bottom. Only two changes of the same line are a conflict, and `--output-strategy`, also with `clear-all`,
# is about conflicts only. `nbmerge --ignore-outputs` is no help either: it keeps the outputs of before both changes.
# The manual explains what to do about conflicts, and says nothing of outputs that have none; we found no issue, either.
# It matters to groups that keep executed notebooks in git and let nbdime merge them, as its manual recommends.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install nbdime==4.0.4 nbformat==5.11.1 pandas==3.1.1
cat > notebooks.py << 'PYTHON'
import nbformat
import pandas
from nbformat.v4 import new_code_cell, new_notebook, new_output


def write(name, rate, width, mlp, resmlp, best):
    printed = f"        loss  accuracy\nMLP     {mlp}\nResMLP  {resmlp}\n"
    table = pandas.DataFrame([best], ["ensemble"], ["loss", "accuracy"]).to_html()
    html = {"text/plain": "<IPython.core.display.HTML object>", "text/html": table}
    cells = [
        new_code_cell(f"rate = {rate}\nmomentum = 0.9\nwidth = {width}", id="settings"),
        new_code_cell("print(table)", id="print", outputs=[new_output("stream", name="stdout", text=printed)]),
        new_code_cell("HTML(best.to_html())", id="html", outputs=[new_output("display_data", html)]),
    ]
    for count, cell in enumerate(cells, start=1):
        cell.execution_count = count
    nbformat.write(new_notebook(cells=cells), name)


write("base.ipynb", 0.1, 512, "2.01      70.1", "1.80      71.0", [1.75, 72.0])
write("faster.ipynb", 0.2, 512, "1.91      70.9", "1.80      71.0", [1.60, 72.0])
write("wider.ipynb", 0.1, 1024, "2.01      70.1", "1.72      73.4", [1.75, 74.5])
PYTHON
env/bin/python notebooks.py
git merge-file -p faster.ipynb base.ipynb wider.ipynb > git.ipynb 2> said || conflicts=$?
merge() { env/bin/nbmerge "$@" base.ipynb faster.ipynb wider.ipynb > said 2>&1; }
merge --out merged.ipynb || { echo CHANGED; cat said; exit 1; }
merge --output-strategy clear-all --out clear.ipynb
merge --ignore-outputs --out ignore.ipynb
cat > compare.py << 'PYTHON'
import re
import sys
from importlib import metadata

import nbformat


def results(name):
    settings, printed, html = nbformat.read(name, 4).cells
    return settings.source, printed.outputs[0].text, re.findall("<td>(.*)</td>", html.outputs[0].data["text/html"])


source, printed, numbers = results("merged.ipynb")
print("nbdime", metadata.version("nbdime"), "conflicts found by git:", sys.argv[1])
print("merged by nbdime:", source, printed, *numbers, sep="\n")
code = "rate = 0.2" in source and "width = 1024" in source
mixed = "MLP     1.91      70.9\nResMLP  1.72      73.4\n" in printed and numbers == ["1.6", "74.5"]
old = results("ignore.ipynb")[1:] == results("base.ipynb")[1:] and results("ignore.ipynb")[0] == source
if not (code and mixed and old and results("clear.ipynb") == results("merged.ipynb") and sys.argv[1] == "2"):
    sys.exit("CHANGED")
PYTHON
env/bin/python compare.py "${conflicts:-0}" || { cat said merged.ipynb; exit 1; }
