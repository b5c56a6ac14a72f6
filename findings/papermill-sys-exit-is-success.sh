#!/usr/bin/env bash
# papermill 2.7.0: a cell that calls sys.exit(0) ends the notebook, and papermill reports success.
# Expected: a status that tells "executed to the end" from "left in the middle". Seen: exit status 0 for both; only
# the missing outputs of the later cells tell.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env && env/bin/pip -q --disable-pip-version-check install papermill==2.7.0 ipykernel==7.4.0
cat > make.py << 'PYTHON'
import nbformat

cells = [nbformat.v4.new_code_cell(text) for text in ("import sys; sys.exit(0)", "print('the last cell')")]
spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), "in.ipynb")
PYTHON
env/bin/python make.py
env/bin/papermill --version
status=0
env/bin/papermill --no-progress-bar in.ipynb out.ipynb 2> log || status=$?
outputs=$(env/bin/python -c 'import nbformat; print(len(nbformat.read("out.ipynb", 4).cells[-1].outputs))')
echo "exit status $status, outputs of the last cell: $outputs"
[ "$status" = 0 ] && [ "$outputs" = 0 ] || { echo "CHANGED"; exit 1; }
