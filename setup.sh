#!/bin/sh
# Makes or completes the virtual environment .venv: `sh setup.sh`, or `sh setup.sh dev` with the
# development tools. `make` calls it. These variables choose:
#   PYTHON   the interpreter; unset: the first of Python 3.11, 3.12 and 3.13 that is found
#   TORCH    torch's build: cpu, cu130, …; unset: cpu on a Linux machine without an NVIDIA GPU,
#            what the package index offers elsewhere
# Packages come from where pip is told to look. uv, where it is on the PATH, is only faster.
set -eu
cd "$(dirname "$0")"
venv=.venv

fail() {
    echo "error: $*" >&2
    exit 2
}

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        supported "$PYTHON" || fail "'$PYTHON' is not Python 3.11, 3.12 or 3.13"
        echo "$PYTHON"
        return
    fi
    for name in python3.11 python3.12 python3.13 python3 python; do
        if supported "$name"; then echo "$name"; return; fi
    done
    if command -v uv >/dev/null; then
        uv python find --quiet '>=3.11,<3.14' 2>/dev/null && return
        uv python install --quiet 3.11 && uv python find --quiet 3.11 && return
    fi
    fail "no Python 3.11, 3.12 or 3.13 was found: install one, or pass PYTHON=/path/to/python3"
}

make_venv() {
    python=$(find_python)
    if command -v uv >/dev/null; then
        uv venv --quiet --seed --clear --python "$python" "$venv"
    elif ! "$python" -m venv --clear "$venv"; then
        rm -rf "$venv"
        fail "'$python' cannot make a virtual environment: install its venv module, or uv"
    fi
}

pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "$@"
}

pip_config() {
    "$venv/bin/python" -m pip config get "global.$1" 2>/dev/null || true
}

# uv reads none of pip's configuration. What it cannot find there, pip is asked for.
install_locked() {
    if command -v uv >/dev/null; then
        links=${PIP_FIND_LINKS:-$(pip_config find-links)}
        index=${PIP_INDEX_URL:-$(pip_config index-url)}
        cert=${PIP_CERT:-$(pip_config cert)}
        (
            [ -z "$links" ] || export UV_FIND_LINKS="${UV_FIND_LINKS:-$(echo $links | tr ' ' ',')}"
            [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
            [ -z "$cert" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$cert}"
            uv pip install --quiet --python "$venv/bin/python" --no-deps --require-hashes -r "$1"
        ) && return
        echo "uv could not install $1: trying pip" >&2
    fi
    pip_install --no-deps --require-hashes -r "$1"
}

# torch is in no lock: each build has other hashes, and other packages beside it.
install_torch() {
    version=$(sed -n 's/.*"torch==\([^"]*\)".*/\1/p' pyproject.toml)
    build=${TORCH:-}
    if [ -z "$build" ] && [ "$(uname)" = Linux ] && [ ! -e /proc/driver/nvidia ]; then build=cpu; fi
    have=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("torch"))' \
        2>/dev/null || true)
    case $have in
        "$version+$build") return ;;
        "$version" | "$version+"*) [ -n "${TORCH:-}" ] || return 0 ;;
    esac
    if [ -n "$build" ]; then
        pip_install "torch==$version+$build" 2>/dev/null && return
        pip_install --retries 1 --timeout 15 "torch==$version+$build" \
            --extra-index-url "https://download.pytorch.org/whl/$build" && return
        [ -z "${TORCH:-}" ] || fail "there is no torch $version+$build for this Python and machine"
    fi
    pip_install "torch==$version"
}

# 0.7 GB that nothing here opens: tests and examples of packages, Ray's part for Java, and models of
# EnvPool's tasks that are not ours. `pip install --force-reinstall --no-deps <package>` brings them back.
slim() {
    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    (
        cd "$packages"
        rm -rf torch/test torch/bin/test_* torch/bin/*Test torch/bin/*.pt* torch/bin/protoc* ray/jars
        rm -rf sf_examples envpool_assets/vizdoom/bin envpool_assets/gfootball envpool_assets/procgen
        rm -rf envpool_assets/mujoco/robotics envpool_assets/mujoco/assets_dmc
        cd envpool_assets_mujoco_large/mujoco
        rm -rf playground
        find myosuite/assets -mindepth 1 -maxdepth 1 ! -name metadata -exec rm -rf {} +
        cd "$packages"
        for package in matplotlib networkx numpy pandas pyarrow pygame scipy sympy; do
            find "$package" -type d -name tests -prune -exec rm -rf {} +
        done
    )
}

version_of() {
    "$1" -c 'import sys; print(*sys.version_info[:2], sep=".")'
}

if ! { [ -x "$venv/bin/python" ] && supported "$venv/bin/python"; }; then make_venv; fi
if [ -n "${PYTHON:-}" ] && [ "$(version_of "$venv/bin/python")" != "$(version_of "$PYTHON")" ]; then
    fail "$venv has Python $(version_of "$venv/bin/python"): remove it to have another"
fi
if [ "${1:-}" = dev ]; then
    install_locked requirements-dev.lock
else
    install_torch
    install_locked requirements.lock
    pip_install --no-deps --no-build-isolation -e .
    slim
fi
