#!/bin/sh
# Becomes a link to an interpreter of this machine when it is run first.
root=$(CDPATH='' cd -- "$(dirname -- "$(realpath -- "$0")")/.." && pwd -P) || exit 1
"$root/bin/envpack-relocate" >/dev/null && exec "$root/bin/python" "$@"
