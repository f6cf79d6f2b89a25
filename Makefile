# make demo    install, train the digit network, write and name its report
# make studio  install, then the demo's network (or the bundled one) in the browser
# make shell   install, then a shell that has the command eyeshot
# make test    install, then lint, types and tests
# make docs    install, then the documentation site, in build/site; every warning is an error
# make fuzz    the property tests with new random examples, and damaged files; a new seed every time
# make bench   the benchmarks (ratios; data in ../shared/data where present)
# make release-check  build the wheel, install it in a new environment, use every command
# make notebooks  the programs of docs/learn.md as notebooks, run, in build/notebooks
# make oldest  the tests of the core with the oldest version of each dependency, in build/oldest
# make mutants small changes of the code that the tests should notice: a score for each package
# make figures draw the pictures of the docs again
# make messages collect the marked messages into the translations (needs GNU gettext)
# make clean   remove what make made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CORE := tests/reference tests/axes tests/operators tests/geometry tests/filters tests/images \
	tests/engine tests/frontends tests/runs tests/data tests/planning tests/inspection tests/findings \
	tests/explanation tests/features tests/nets tests/cli

.PHONY: demo studio shell test lint types docs pytest fuzz bench release-check oldest notebooks mutants figures messages clean

demo: $(STAMP)
	$(BIN)/eyeshot demo

studio: $(STAMP)
	@if [ -d demo/run ]; then $(BIN)/eyeshot studio demo/run demo/pictures/*.png; else $(BIN)/eyeshot studio; fi

shell: $(STAMP)
	@echo "eyeshot is on the path; exit leaves this shell"
	@PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)" "$${SHELL:-sh}"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "eyeshot needs Python 3.11 or later; run: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# mypy takes one process 40 s on a new clone: the docs and the tests run beside it.
test: lint
	@$(MAKE) --no-print-directory -j 2 types docs pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python -m tools.build_site

pytest: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist worksteal

fuzz: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist worksteal --hypothesis-profile=fuzz
	$(BIN)/python -m tools.fuzzing --seed $$(date +%s) --seconds 300

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

release-check: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt build
	$(BIN)/python -m tools.release_check

oldest:
	$(PYTHON) -m venv build/oldest
	build/oldest/bin/python -m pip install --quiet -c constraints-oldest.txt '.[all]' pytest pytest-xdist hypothesis
	build/oldest/bin/python -m pip uninstall --quiet --yes eyeshot
	PYTHONPATH=src:. build/oldest/bin/python -m pytest -q -p no:cacheprovider $(CORE)

notebooks: $(STAMP)
	$(BIN)/python -m tools.write_notebooks --run

mutants: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[mutants]'
	$(BIN)/python -m tools.mutants

figures: $(STAMP)
	$(BIN)/python tools/draw_docs.py
	$(BIN)/python -m tools.draw_streaming
	$(BIN)/python -m tools.draw_unet
	$(BIN)/python -m tools.draw_segment
	$(BIN)/python -m tools.draw_gallery
	$(BIN)/python -m tools.draw_pages
	$(BIN)/python -m tools.draw_studio

messages:
	xgettext --language=Python --from-code=UTF-8 --no-location --no-wrap -k -ktr \
	  -kntr:1,2 -kmark -kplural:1,2 -o messages.pot $$(find src/eyeshot -name '*.py' | sort)
	msgmerge --quiet --update --backup=none --no-fuzzy-matching --no-wrap src/eyeshot/language/zh.po messages.pot
	sed -i.bak '/^"POT-Creation-Date/d' src/eyeshot/language/zh.po
	rm messages.pot src/eyeshot/language/zh.po.bak

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
