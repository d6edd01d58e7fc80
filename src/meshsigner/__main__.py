"""`python -m meshsigner`: the same as the command `meshsigner`."""

from meshsigner.cli import main

if __name__ == "__main__":
    main()
