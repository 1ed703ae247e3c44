# Compares XLA's flags on two versions of jaxlib, in turn: bash results/speed/jaxlib.sh PYTHON PYTHON
for round in 1 2; do
  for python in "$@"; do
    for undone in "" flags; do
      version=$("$python" -c 'import jaxlib; print(jaxlib.__version__)')
      PYTHONPATH=. "$python" results/speed/what_each_gave.py "$undone" | tail -n 1 |
        "$python" -c 'import json, sys
found = json.loads(sys.stdin.read())
print(*sys.argv[1:], "of_roof {of_roof:.3f} rate {rate:.1f} peak {peak:,.0f} MB".format(**found))' \
          "jaxlib $version" "round $round" "${undone:+without }flags"
    done
  done
done
