#!/usr/bin/env bash
# papermill 2.7.0: a notebook whose cell lost the tag `parameters` runs with its defaults, whatever -p says.
# Expected of a command that is given a parameter it cannot place: an error. Seen: a warning, exit status 0, and the
# injected cell goes first, so that the notebook's own defaults replace its values.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env && env/bin/pip -q --disable-pip-version-check install papermill==2.7.0 ipykernel==7.4.0
cat > make.py << 'PYTHON'
import nbformat

cells = [nbformat.v4.new_code_cell(text) for text in ("size = 'large'", "print('size is', size)")]
spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), "lost.ipynb")
cells[0].metadata.tags = ["parameters"]
nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), "tagged.ipynb")
PYTHON
env/bin/python make.py
said() { grep -o 'size is [a-z]*' "$1"; }
env/bin/papermill --version
for name in tagged lost; do
    env/bin/papermill --no-progress-bar -p size small $name.ipynb $name-out.ipynb 2> $name.log
    echo "$name: -p size small, exit status 0, the notebook printed: $(said $name-out.ipynb)"
done
grep -i "not contain a cell with tag 'parameters'" lost.log || { echo "CHANGED: no warning"; exit 1; }
[ "$(said tagged-out.ipynb)" = "size is small" ] && [ "$(said lost-out.ipynb)" = "size is large" ] ||
    { echo "CHANGED: the injected value now counts"; exit 1; }
