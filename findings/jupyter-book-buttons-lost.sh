#!/usr/bin/env bash
# Jupyter Book 1.0.4: one theme option in _config.yml removes the launch buttons and the repository button.
# Expected: `repository`, `launch_buttons` and `html` settings are turned into theme options, and those under
# sphinx: config: html_theme_options are added to them. Seen: they replace them all, without a warning.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install jupyter-book==1.0.4.post1 sphinx-book-theme==1.3.0
book() { # the number of links to the repository in a book with the further settings of standard input
    mkdir "$1"
    printf 'format: jb-book\nroot: index\n' > "$1/_toc.yml"
    printf '# A page\n\nWords.\n' > "$1/index.md"
    { cat << 'CONFIG'; cat; } > "$1/_config.yml"
title: A book
execute: {execute_notebooks: "off"}
repository: {url: "https://github.com/an-owner/a-book", path_to_book: "", branch: main}
launch_buttons: {binderhub_url: "https://mybinder.org"}
html: {use_repository_button: true}
CONFIG
    env/bin/jupyter-book build -q -W --keep-going "$1" > "$1.log" 2>&1 || { cat "$1.log"; exit 2; }
    grep -o 'href="https://github.com/an-owner/a-book"' "$1/_build/html/index.html" | wc -l
}
env/bin/jupyter-book --version | head -n 1
plain=$(book plain < /dev/null)
option=$(printf 'sphinx: {config: {html_theme_options: {show_toc_level: 2}}}\n' | book option)
echo "links to the repository: $plain without, $option with the theme option show_toc_level"
[ "$plain" -gt 0 ] && [ "$option" -eq 0 ] || { echo "CHANGED"; exit 1; }
