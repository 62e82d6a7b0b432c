"""`python -m app` is the `screener` command."""

from app.cli.main import main

main()
