#!/bin/sh
# dbx, from an environment of its own: what dbx 0.8.19 pins, nothing else here could use. Made when first needed.
# `make setup` copies this file to .venv/bin/dbx.
project=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd) || exit
make --silent --directory "$project" dbx-environment >&2 || exit
exec "$project/.venv-dbx/bin/dbx" "$@"
