"""`python -m envpack` is the command `envpack`."""

from envpack.commands.main import main

if __name__ == "__main__":
    raise SystemExit(main())
