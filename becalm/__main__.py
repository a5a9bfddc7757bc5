"""`python -m becalm` is the command `becalm`."""

from becalm.cli import main

if __name__ == "__main__":
    main()
