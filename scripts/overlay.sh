#!/bin/sh
# Usage: overlay.sh BELOW ABOVE PIP_ARGUMENTS...
# Make ABOVE, a venv over the venv BELOW: it has the packages of that, and in place of their versions, or of its editable
# install, those that pip installs with these arguments. The commands of all packages run on the interpreter of ABOVE.
set -eu

cd "$(dirname "$0")/.."
below="$PWD/$1"
above="$2"
shift 2
"$below/bin/python" -m venv --clear --without-pip "$above"
purelib='import sysconfig; print(sysconfig.get_path("purelib"))'
packages_below="$("$below/bin/python" -c "$purelib")"
packages="$("$above/bin/python" -c "$purelib")"
echo "$packages_below" >"$packages/below.pth"
[ ! -e "$packages_below/below.pth" ] || cat "$packages_below/below.pth" >>"$packages/below.pth"
pip="$PWD/.venv/bin/python -m pip --disable-pip-version-check -qq --python $above/bin/python"
$pip install --no-deps "$@"
for command in $(grep -lIF -d skip "$below/bin/python" "$below"/bin/*); do
    copy="$above/bin/$(basename "$command")"
    [ -e "$copy" ] || { sed "1,2s|$below/bin/python|$PWD/$above/bin/python|" "$command" >"$copy" && chmod +x "$copy"; }
done
$pip check
