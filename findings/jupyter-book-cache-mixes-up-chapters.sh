#!/usr/bin/env bash
# Jupyter Book 1.0.4.post1 with jupyter-cache 1.0.1: with `execute_notebooks: cache`, a chapter shows the
# results of another one that has the same code.
# Expected: each notebook is executed in its own folder, as with `force`. Seen: the cache knows a notebook by
# its code and metadata, not by its place, so that the second of two chapters that read the `results.txt`
# beside them is never executed. It shows the first one's outputs, without a warning; the log says "Using
# cached notebook". The manual (https://myst-nb.readthedocs.io/en/latest/computation/execute.html) warns of
# files that change over time, and these do not; it says that a notebook without changes since the last build
# is not executed again, and this is the first build.
# It matters to a report per data set, made from one template: all of them show one data set's numbers.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install jupyter-book==1.0.4.post1 jupyter-cache==1.0.1 ipykernel==7.4.0
mkdir -p book/cifar10 book/cifar100
cat > make.py << 'PYTHON'
from pathlib import Path

import nbformat

spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
for name, accuracy in (("cifar10", 58), ("cifar100", 27)):
    Path("book", name, "results.txt").write_text(str(accuracy))
    cells = [
        nbformat.v4.new_markdown_cell(f"# Results on {name}"),
        nbformat.v4.new_code_cell("print('accuracy:', open('results.txt').read())"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec})
    nbformat.write(notebook, f"book/{name}/report.ipynb")
PYTHON
env/bin/python make.py
printf '%s\n' 'format: jb-book' 'root: cifar10/report' 'chapters:' '- file: cifar100/report' > book/_toc.yml
env/bin/jupyter-book --version | grep -E 'Jupyter Book|Jupyter-Cache'
echo "written:          cifar10 58, cifar100 27"
for mode in force cache; do
    printf '%s\n' 'title: Reports' 'execute:' "  execute_notebooks: \"$mode\"" > book/_config.yml
    env/bin/jupyter-book build book --path-output "$mode" > log 2>&1 || { cat log; exit 1; }
    said() { grep -oP 'accuracy: \K[0-9]+' "$mode/_build/html/$1/report.html"; }
    echo "shown with $mode: cifar10 $(said cifar10), cifar100 $(said cifar100)"
    echo "$(said cifar10) $(said cifar100)" >> shown
done
[ "$(cat shown)" = $'58 27\n58 58' ] || { echo "CHANGED"; exit 1; }
