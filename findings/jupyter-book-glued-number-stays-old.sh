#!/usr/bin/env bash
# Jupyter Book 1.0.4.post1 with myst-nb 1.4.0: after a new build, one page states a result, another the result before.
# Expected: `{glue}` of another page's result shows what that page shows. Seen: a page is written again only if its own
# source has changed. The summary, which has the number from a notebook, keeps that of the notebook's last version,
# however often the book is built. There is no warning, also not with `-W`; the page of the notebook is right. So is the
# front page, which is written again since it has the table of contents, so that a first try there finds it in order.
# With `--all`, or without the folder of the last build, the summary is right.
# The manual says that a build writes the pages that were modified. It shows how to paste results of other pages, and
# recommends that for notebooks that readers do not see, where nothing else tells the new number, without a word about
# building anew. Of the table of contents on unchanged pages it is known (issue 1801 of jupyter-book/jupyter-book).
# It matters to reports with a summary: after a correction of an analysis it goes on stating the wrong number.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install jupyter-book==1.0.4.post1 myst-nb==1.4.0 ipykernel==7.4.0 numpy==2.4.6
mkdir book
printf '%s\n' 'format: jb-book' 'root: front' 'chapters:' '- file: results' '- file: summary' > book/_toc.yml
printf '%s\n' 'title: Report' 'execute:' '  execute_notebooks: force' > book/_config.yml
for page in front summary; do
    printf '# The %s page\n\nThe network is right about {glue:text}`results.ipynb::accuracy:.1f` percent.\n' $page \
        > book/$page.md
done
cat > make.py << 'PYTHON'
import sys

import nbformat

spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
code = f"from myst_nb import glue\nglue('accuracy', {sys.argv[1]}, display=False)"
cells = [
    nbformat.v4.new_markdown_cell("# Results"),
    nbformat.v4.new_code_cell(code),
    nbformat.v4.new_markdown_cell("The network is right about {glue:text}`accuracy:.1f` percent."),
]
nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), "book/results.ipynb")
PYTHON
said() { grep -oP 'right about \K[0-9.]+' <(sed 's/<[^>]*>//g' "book/_build/html/$1.html"); }
build() {
    env/bin/python make.py "$1"
    env/bin/jupyter-book build book -W "${@:2}" > log 2>&1 || { cat log; exit 1; }
    says="$(said results) $(said front) $(said summary)"
    echo "accuracy $1, jupyter-book build ${*:2}: results, front page and summary say $says"
    seen+="$says, "
}
env/bin/jupyter-book --version | grep -E 'Jupyter Book|MyST-NB'
seen=""
build 71.2
build 58.3
build 58.3
build 58.3 --all
[ "$seen" = "71.2 71.2 71.2, 58.3 58.3 71.2, 58.3 58.3 71.2, 58.3 58.3 58.3, " ] || { echo "CHANGED"; exit 1; }
