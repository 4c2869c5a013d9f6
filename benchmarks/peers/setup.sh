#!/bin/sh
# An environment of its own for each peer, under build/bench/venvs: their dependencies contradict
# each other. Versions are pinned; what is there already in the right version costs nothing.
#
#   benchmarks/peers/setup.sh [NAME ...]        all of them unless named
#   PYTHON=...                                  the interpreter; Wordmill's own unless told
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
venvs="$root/build/bench/venvs"
uv=$root/.venv/bin/uv
[ -x "$uv" ] || uv=uv
python=${PYTHON:-$root/.venv/bin/python}

requirements() {
    case $1 in
        aiohttp) echo "aiohttp==3.14.5 orjson==3.13.0" ;;
        openai) echo "openai==3.52.0" ;;
        litellm) echo "litellm==1.106.2" ;;
        curator) echo "bespokelabs-curator==0.1.31" ;;
        data-designer) echo "data-designer==0.9.6" ;;
        # distilabel imports requests and Pillow without bringing them.
        distilabel) echo "distilabel[openai]==1.5.3 openai==3.52.0 requests Pillow" ;;
        *) echo "There is no peer '$1': aiohttp, openai, litellm, curator, data-designer, distilabel." >&2
           exit 2 ;;
    esac
}

[ $# -gt 0 ] || set -- aiohttp openai litellm curator data-designer distilabel
for name; do
    wanted=$(requirements "$name")
    stamp="$venvs/$name/.requirements"
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && continue
    "$uv" venv --quiet --clear --python "$python" "$venvs/$name"
    # shellcheck disable=SC2086  # words on purpose
    "$uv" pip install --quiet --compile-bytecode --python "$venvs/$name/bin/python" $wanted
    echo "$wanted" > "$stamp"
    echo "$name: $wanted"
done

# The tokenizer tables that curator and data-designer would download; litellm brings them along.
tables=$(find "$venvs" -type d -path '*/litellm_core_utils/tokenizers' | head -n 1)
if [ -n "$tables" ] && [ ! -d "$venvs/tiktoken" ]; then
    cp -r "$tables" "$venvs/tiktoken"
fi
