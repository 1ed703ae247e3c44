# Sourced by the other scripts: makes .venv once and installs a requirements file into it.
# Usage: environment REQUIREMENTS [REQUIREMENTS…]

environment() {
  local stamp=.venv/installed wanted
  wanted=$(cat pyproject.toml requirements.txt tests/requirements.txt | cksum)
  if [ ! -x .venv/bin/python ]; then
    echo "Making .venv"
    "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
      echo "error: ${PYTHON:-python3} is older than Python 3.11; set PYTHON to a newer one" >&2
      return 2
    }
    "${PYTHON:-python3}" -m venv .venv || {
      echo "error: no .venv could be made; on Debian: apt-get install python3-venv" >&2
      return 2
    }
  fi
  local file
  for file in "$@"; do
    if ! grep -qsxF "$file $wanted" "$stamp"; then
      echo "Installing $file"
      .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$file" || return 1
      echo "$file $wanted" >> "$stamp"
    fi
  done
  # The package itself, so that it can be imported from any folder.
  if ! grep -qsxF "package $wanted" "$stamp"; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e . || return 1
    echo "package $wanted" >> "$stamp"
  fi
}
