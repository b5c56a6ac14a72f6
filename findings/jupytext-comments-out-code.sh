#!/usr/bin/env bash
# jupytext 1.19.6: a notebook's script leaves out `ls += [0.0001]`, and computes with three learning rates, not four.
# Expected: the script that `jupytext --to py` makes computes what the notebook computes. Seen: a line that begins with
# a variable called cat, cd, cp, mv, rm, ls, echo or copy, and a space, is a comment in the script unless "=" or ","
# follows: `cp *= 100`, `mv -= 1.0`, `rm - 1`. There is no warning, and the script runs. Jupyter knows that such a name
# is a variable, and computes. Back in a notebook the lines are code again, so `jupytext --test` finds nothing.
# The manual says that magic commands are commented out, with examples that begin with "%". It does not say that these
# names are taken for commands. For `cat = x` that was reported and mended in 2019 (issue 339 of mwouts/jupytext).
# It matters to analyses that are written as notebooks and run as scripts, on a cluster or in tests: numbers differ.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install jupytext==1.19.6 nbclient==0.11.0 nbformat==5.11.1 ipykernel==7.4.0
cat > execute.py << 'PYTHON'
import logging

import nbclient
import nbformat

logging.disable()
cells = [
    "ls = [0.1, 0.01, 0.001]\nls += [0.0001]\nprint(len(ls), 'learning rates')",
    "cp = 0.25\ncp *= 100\nprint(f'{cp:g} percent of the images')",
    "mv = 3.0\nmv -= 1.0\nprint('moved by', mv)",
]
spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
code = [nbformat.v4.new_code_cell(cell) for cell in cells]
notebook = nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": spec})
nbformat.write(notebook, "analysis.ipynb")
nbclient.NotebookClient(notebook).execute()
print("".join(cell.outputs[0].text for cell in notebook.cells), end="")
PYTHON
export PATH="$PWD/env/bin:$PATH"
python execute.py > notebook 2> log || { cat log; exit 1; }
echo "jupytext $(jupytext --version)"
for kind in percent light; do
    jupytext --quiet --to py:$kind --output $kind.py analysis.ipynb
    python $kind.py > $kind
    jupytext --quiet --test --to py:$kind analysis.ipynb
done
echo "the notebook:" && cat notebook
echo "its script:" && cat percent
echo "lines that the script has as comments:" && grep -E '^# (ls|cp|mv)' percent.py
wrong=$'3 learning rates\n0.25 percent of the images\nmoved by 3.0'
right=$'4 learning rates\n25 percent of the images\nmoved by 2.0'
[ "$(cat notebook)/$(cat percent)/$(cat light)" = "$right/$wrong/$wrong" ] || { echo "CHANGED"; exit 1; }
