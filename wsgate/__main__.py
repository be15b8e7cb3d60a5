"""python -m wsgate: the same as the command."""

from wsgate.cli import main

if __name__ == "__main__":
    main()
