#!/bin/sh
# Build wheel and sdist into build/dist, check both with twine, and run the wheel in an empty venv of each Python in PYTHONS
# that this machine has: on the lowest versions that pyproject.toml allows, and on the newest. The last lines say which ran.
# The last of them, the newest, also has the newest Django, on which examples/django_app is tested.
set -eu

cd "$(dirname "$0")/.."
root="$PWD"
PYTHONS="${PYTHONS:-python3.10 python3.11 python3.12 python3.13 python3.14}"
pip="-m pip --disable-pip-version-check -qq"
rm -rf build/dist build/packages
mkdir -p build/packages
.venv/bin/python -m hatchling build -d build/dist >build/packages/build.log 2>&1
.venv/bin/python scripts/check_wheel.py build/dist/*.whl

# shellcheck disable=SC2086
{
    [ -x .venv-twine/bin/twine ] || { .venv/bin/python -m venv .venv-twine && .venv-twine/bin/python $pip install twine; }
    .venv-twine/bin/twine check --strict build/dist/*

    # Of celery>=5.4,<6 the lowest is celery==5.4.*
    .venv/bin/python - >build/packages/lowest.txt <<'PYTHON'
from email.parser import HeaderParser
from glob import glob
from zipfile import ZipFile
from packaging.requirements import Requirement

with ZipFile(glob("build/dist/*.whl")[0]) as wheel:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = HeaderParser().parsestr(wheel.read(name).decode())
for requirement in map(Requirement, metadata.get_all("Requires-Dist")):
    if requirement.marker is None:
        [lowest] = [one.version for one in requirement.specifier if one.operator == ">="]
        print(f"{requirement.name}=={lowest}.*")
PYTHON
    : >build/packages/newest.txt

    for python in $PYTHONS; do
        "$python" -c 'import ensurepip' 2>/dev/null || { echo "packages: $python is not here" && continue; }
        last="$python"
        for versions in lowest newest; do
            venv="build/packages/$python-$versions"
            "$python" -m venv "$venv"
            "$venv/bin/python" $pip install -c "build/packages/$versions.txt" build/dist/*.whl
            (cd build/packages && "$root/$venv/bin/python" -W error::DeprecationWarning:sluice_agent \
                "$root/tests/packages/smoke.py") >"$venv.log" 2>&1 || { cat "$venv.log" && exit 1; }
            rm -rf "$venv"
            echo "packages: $versions: $(sed -n '/^python/p' "$venv.log")"
        done
    done

    venv="$root/build/packages/django"
    "$last" -m venv "$venv"
    "$venv/bin/python" $pip install build/dist/*.whl django django-celery-beat django-celery-results redis
    echo "packages: newest: $("$last" --version), Django $("$venv/bin/python" -m django --version)"
    NEWEST_DJANGO="$venv/bin/python" .venv/bin/python -m pytest -q tests/integration/test_django.py -k newest
}
