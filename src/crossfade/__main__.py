"""`python -m crossfade` is the `crossfade` command."""

from crossfade.cli import main

if __name__ == "__main__":
    main()
