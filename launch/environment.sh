# Sourced by the other scripts: makes a virtual environment once and installs packages into it.
# Usage: enter_top; environment REQUIREMENTS [REQUIREMENTS…]; after it, "$venv/bin/python" has the
# packages.
# PYTHON=python3.12 names the interpreter; without it, the first of python3, python3.13, … that fits
# is used. If .venv is of another version than PYTHON, .venv-3.12 is made beside it.

# Changes into the repository's top folder; a relative path in PYTHON stays that of the caller.
enter_top() {
  case ${PYTHON:-} in
    /*) ;;
    */*) PYTHON=$PWD/$PYTHON ;;
  esac
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
}

environment() {
  find_venv || return
  local versions file size
  versions=$(cat pyproject.toml requirements.txt tests/requirements.txt | cksum)
  for file in "$@"; do
    grep -qsxF "$file $versions" "$venv/installed" && continue
    size=
    [ "$file" != requirements.txt ] ||
      size=": 600 MB to download, 2.6 GB on the disk, a few minutes"
    echo "Installing $file into $venv$size"
    # With the package itself, so that it can be imported from any folder.
    install -r "$file" -e . || return
    echo "$file $versions" >> "$venv/installed"
  done
}

# One error line, as from the commands in Python.
fail() {
  echo "error: $*" >&2
  return 2
}

# Insists on a .venv that was made before.
made_venv() {
  [ -x .venv/bin/python ] || fail "$PWD has no .venv; make it first: bash launch/quickstart.sh"
}

# Sets venv to the folder of the virtual environment; makes it if it is not there.
find_venv() {
  local python
  venv=.venv
  if [ -x .venv/bin/python ] && [ -z "${PYTHON:-}" ]; then
    fits .venv/bin/python ||
      fail ".venv has Python $(version .venv/bin/python || echo "that does not run");" \
        "remove it and try again: rm -r .venv"
    return
  fi
  find_python || return
  if [ -x .venv/bin/python ] && [ "$(version .venv/bin/python)" != "$(version "$python")" ]; then
    venv=.venv-$(version "$python")
  fi
  [ -x "$venv/bin/python" ] || make_venv
}

# Sets python to the interpreter to use.
find_python() {
  local named=${PYTHON:-python3} found
  for python in "$named" python3.13 python3.12 python3.11; do
    fits "$python" && return
    [ -z "${PYTHON:-}" ] || break
  done
  found=$(version "$named")
  if [ -n "$found" ]; then found="$named is Python $found"; else found="there is no $named"; fi
  fail "$found; install Python 3.11, 3.12 or 3.13, or name one: PYTHON=/path/to/python3.12"
}

fits() {
  case $(version "$1") in 3.11 | 3.12 | 3.13) ;; *) return 1 ;; esac
}

# The version of an interpreter, such as 3.12; nothing if it does not run.
version() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null
}

make_venv() {
  "$python" -c 'import ensurepip, venv' 2> /dev/null ||
    fail "$python cannot make $venv: on Debian and Ubuntu run: apt-get install python3-venv" || return
  echo "Making $venv with Python $(version "$python")"
  # --clear: a .venv whose interpreter is gone, as after an upgrade, keeps links that lead nowhere.
  "$python" -m venv --clear "$venv" && return
  rm -rf "$venv" # half of one would be taken for a whole one
  fail "$venv could not be made; the reason stands above"
}

# Installs with pip, of whose output the large files and the last phase are shown.
install() {
  local shown='(Downloading|Using cached) [^ ]+ \(.* MB\)|Installing collected packages'
  "$venv/bin/python" -m pip --version > /dev/null 2>&1 ||
    "$venv/bin/python" -m ensurepip > /dev/null 2>&1 ||
    fail "$venv has no pip; remove it and try again: rm -r $venv" || return
  PYTHONUNBUFFERED=1 "$venv/bin/python" -m pip install --disable-pip-version-check \
    --progress-bar off "$@" |
    { grep --line-buffered -oE "$shown" || true; } | sed 's/^/  /'
  [ "${PIPESTATUS[0]}" -eq 0 ] ||
    fail "pip could not install $*; the reason stands above; try again, it goes on from there"
}
