PYTHON ?= python3
IN = .venv/bin

.PHONY: demo test lint clean

demo: .venv/demo.done
	$(IN)/ilora demo

test: .venv/test.done
	$(IN)/python -m pytest

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
