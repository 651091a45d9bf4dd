"""Changed inputs to every reader; `python -m fuzz` in tests/support/ feeds them by the thousand."""
