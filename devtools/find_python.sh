#!/bin/sh
# Print the Python to make environments with: the one that is named, otherwise python3, otherwise the newest supported
# one on the PATH. Debian's own comes without ensurepip unless python3-venv is installed, so that is asked for too.
oldest=3.10
newest=3.13
usable() {
    "$1" -c 'import sys, venv, ensurepip
def parts(text): return tuple(map(int, text.split(".")))
sys.exit(not parts(sys.argv[1]) <= sys.version_info[:2] <= parts(sys.argv[2]))' "$oldest" "$newest" 2>/dev/null
}
if [ -n "$1" ]; then
    usable "$1" && echo "$1" && exit
    found=$(command -v "$1" >/dev/null && "$1" --version 2>&1)
    echo "error: $1 is no Python $oldest to $newest with venv (${found:-no such program}); name another: make PYTHON=…" >&2
    exit 1
fi
for python in python3 python3.13 python3.12 python3.11 python3.10; do
    usable "$python" && echo "$python" && exit
done
echo "error: no Python $oldest to $newest with venv on the PATH; get one with uv python install $newest, then: make PYTHON=\"\$(uv python find $newest)\" …" >&2
exit 1
