"""`python -m search` is `digitsearch`."""

from search.command import main

if __name__ == "__main__":
    main()
