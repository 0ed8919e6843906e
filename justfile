# Commands of the project. `just` comes with the dev extra (package rust-just).

# show the recipes
default:
    @just --list

# install everything that the tests need, and the hooks that run before a commit
setup:
    pip install -e '.[dev]'
    pre-commit install

# the tests to run while you work
quick:
    pytest -m quick

# every test
test:
    pytest

# ruff, format, mypy, layers of imports, spelling, schemas: what CI runs before the tests
lint:
    .ci/checks

# mypy alone
types:
    .ci/checks mypy

# make the generated tables and drawings anew, then build the site
docs:
    python -m tools.docs.make_tables
    python -m tools.docs.imports
    mkdocs build --strict

# every benchmark of speed and memory
bench:
    python -m benchmarks.speed.all
