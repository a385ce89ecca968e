.PHONY: check test lint
check:
	.ci/run
test:
	python3 -m pytest
lint:
	ruff format --check . && ruff check . && mypy
