"""Look at the documentation that was built, as its readers do: ``python -m docs.check``, or ``make docs-check``."""
