# To be sourced by sh, dash, bash, ksh or zsh: . DIR/bin/activate
# Puts the programs of DIR first on PATH and makes DIR fit the place where it lies; `deactivate` takes it back.

# Which file is this? Some shells say it; of others the system knows which file they have open.
if [ -n "${BASH_VERSION-}" ]; then
    _envpack_file=$BASH_SOURCE
elif [ -n "${ZSH_VERSION-}" ]; then
    eval '_envpack_file=${(%):-%x}'
elif [ -n "${KSH_VERSION-}" ] && (eval ': "${.sh.file}"') 2>/dev/null; then
    eval '_envpack_file=${.sh.file}'
else
    _envpack_file=$PWD/bin/activate
    # Not $$, which in a subshell is another process.
    if read -r _envpack_process _envpack_rest 2>/dev/null </proc/self/stat; then
        for _envpack_open in /proc/"$_envpack_process"/fd/*; do
            _envpack_open=$(readlink "$_envpack_open") || continue
            case $_envpack_open in
            */bin/activate) [ ! -e "${_envpack_open%/*}/envpack-relocate" ] || _envpack_file=$_envpack_open ;;
            esac
        done
    fi
    unset _envpack_process _envpack_rest _envpack_open
fi
case $_envpack_file in
*/*) ;;
*) _envpack_file=./$_envpack_file ;;
esac
_envpack_root=$(CDPATH='' cd -- "${_envpack_file%/*}/.." 2>/dev/null && pwd -P)
if [ ! -e "$_envpack_root/bin/envpack-relocate" ]; then
    echo "envpack: error: cannot tell where 'activate' lies: go into its environment, then: . bin/activate" >&2
    unset _envpack_file _envpack_root
    return 1
fi
if ! "$_envpack_root/bin/envpack-relocate" >/dev/null; then
    unset _envpack_file _envpack_root
    return 1
fi

if [ -n "${VIRTUAL_ENV-}" ] && command -v deactivate >/dev/null 2>&1; then
    deactivate
fi

_envpack_keep() {
    eval "_ENVPACK_OLD_$1=\${$1-}"
    eval "_ENVPACK_HAD_$1=\${$1+yes}"
}

_envpack_restore() {
    if eval "[ -n \"\$_ENVPACK_HAD_$1\" ]"; then
        eval "$1=\$_ENVPACK_OLD_$1"
        [ "$1" = PS1 ] || export "$1"
    else
        unset "$1"
    fi
    unset "_ENVPACK_OLD_$1" "_ENVPACK_HAD_$1"
}

# What packages of conda want done, such as setting a variable.
_envpack_hooks() {
    if [ -n "${ZSH_VERSION-}" ]; then
        emulate -L sh
    fi
    for _envpack_hook in "$1"/etc/conda/"$2".d/*.sh; do
        if [ -r "$_envpack_hook" ]; then
            . "$_envpack_hook"
        fi
    done
    unset _envpack_hook
}

deactivate() {
    _envpack_hooks "$VIRTUAL_ENV" deactivate
    _envpack_restore PATH
    _envpack_restore PYTHONHOME
    _envpack_restore CONDA_PREFIX
    _envpack_restore VIRTUAL_ENV
    _envpack_restore PS1
    unset -f deactivate _envpack_keep _envpack_restore _envpack_hooks
    hash -r 2>/dev/null || :
}

_envpack_keep PATH
_envpack_keep PYTHONHOME
_envpack_keep CONDA_PREFIX
_envpack_keep VIRTUAL_ENV
_envpack_keep PS1
VIRTUAL_ENV=$_envpack_root
PATH=$VIRTUAL_ENV/bin:$PATH
export VIRTUAL_ENV PATH
unset PYTHONHOME
if [ -d "$VIRTUAL_ENV/conda-meta" ]; then
    CONDA_PREFIX=$VIRTUAL_ENV
    export CONDA_PREFIX
fi
if [ -n "${PS1-}" ]; then
    PS1="(${VIRTUAL_ENV##*/}) $PS1"
fi
unset _envpack_file _envpack_root
_envpack_hooks "$VIRTUAL_ENV" activate
hash -r 2>/dev/null || :
