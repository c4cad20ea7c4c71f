#!/bin/sh
# Makes this environment fit the place where it lies, as often as it is moved: finds its interpreter where it brings none,
# and writes its path into the files that need it. Where it fits already, nothing is written.

needed='@NEEDED@'
version='@VERSION@'
names='@NAMES@'
id='@ID@'

root=$(CDPATH='' cd -- "$(dirname -- "$(realpath -- "$0")")/.." && pwd -P) || exit 1
note=$root/.envpack/placeholders.json

fail() {
    echo "envpack-relocate: error: $1" >&2
    exit 1
}

# Prints what an interpreter is, the folder and the file of its installation, and its version, one in a line.
ask() {
    "$1" -I -S -c '
import os, sys, sysconfig
name = sys.implementation.name
version = "%d.%d" % sys.version_info[:2]
soabi = sysconfig.get_config_var("SOABI") or ""
if name == "cpython":
    abi = "cp" + (soabi.split("-")[1] if soabi.startswith("cpython-") else version.replace(".", ""))
else:
    abi = soabi.replace(".", "_").replace("-", "_")
base = getattr(sys, "_base_executable", "") or sys.executable
print(name, version, abi, sysconfig.get_platform())
print(os.path.dirname(base), base, "%d.%d.%d" % sys.version_info[:3], sep="\n")
' 2>/dev/null
}

line() {
    printf '%s\n' "$2" | sed -n "$1p"
}

# Another environment of this kind on PATH is passed over: it stands on an interpreter itself.
search() {
    met=''
    for name in $names; do
        rest=$PATH:
        while [ -n "$rest" ]; do
            folder=${rest%%:*}
            rest=${rest#*:}
            program=$folder/$name
            [ -x "$program" ] && [ ! -d "$program" ] && [ ! -e "$folder/envpack-relocate" ] || continue
            answer=$(ask "$program") || continue
            [ "$(line 1 "$answer")" != "$needed" ] || return 0
            met="$met, $program is $(line 1 "$answer")"
        done
    done
    fail "no Python of this kind on PATH: $needed (${met#, }${met:+; }install Python $version, or put it on PATH)"
}

stand_on() {
    {
        printf 'home = %s\ninclude-system-site-packages = false\n' "$(line 2 "$answer")" &&
            printf 'version = %s\nenvpack = %s\n' "$(line 4 "$answer")" "$id"
    } >"$root/.envpack/pyvenv.$$" &&
        mv -f "$root/.envpack/pyvenv.$$" "$root/pyvenv.cfg" &&
        ln -s "$(line 3 "$answer")" "$root/.envpack/python.$$" &&
        mv -f "$root/.envpack/python.$$" "$root/bin/python"
}

if [ -n "$needed" ]; then
    # A link; at first it is a script that calls this one.
    if [ ! -L "$root/bin/python" ] || [ "$(line 1 "$(ask "$root/bin/python")")" != "$needed" ]; then
        search
        stand_on 2>/dev/null || fail "cannot write in '$root': run this once as somebody who may"
    fi
fi
[ -e "$note" ] || exit 0
case $(cat "$note") in
*"\"prefix\": \"$root\""*) ;;
*) exec "$root/bin/python" -I -B "$root/.envpack/placeholders.py" ;;
esac
