#!/bin/sh
# dbx and its databricks-cli, from an environment of their own: what dbx 0.8.19 pins, nothing else here could use. It is
# made when first needed. `make setup` copies this file to .venv/bin/dbx and .venv/bin/databricks.
project=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd) || exit
make --silent --directory "$project" dbx-environment >&2 || exit
# pip builds the wheel with the setuptools of this environment, in place of downloading one for each deploy;
# by pip's reading of this variable, 0 means no isolation.
export PIP_NO_BUILD_ISOLATION=0
exec "$project/.venv-dbx/bin/$(basename -- "$0")" "$@"
