PYTHON ?= python3
IN = .venv/bin

.PHONY: demo test lint clean

demo: .venv/demo.done
	$(IN)/ilora demo

# One process a core, of one thread: the suite is many small computations.
test: .venv/test.done
	OMP_NUM_THREADS=1 $(IN)/python -m pytest -n auto --dist loadfile

lint: .venv/test.done
	$(IN)/ruff check src tests benchmarks
	$(IN)/ruff format --check src tests benchmarks

.venv/pip.done:
	$(PYTHON) -m venv .venv
	touch $@

.venv/demo.done: .venv/pip.done pyproject.toml constraints.txt
	$(IN)/pip install --quiet -c constraints.txt -e '.[all]'
	touch $@

.venv/test.done: .venv/pip.done pyproject.toml constraints.txt
	$(IN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv demo runs
