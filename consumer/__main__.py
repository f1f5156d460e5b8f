"""`python -m consumer` is `dayfold`."""

from consumer.commands.app import main

if __name__ == "__main__":
    main()
