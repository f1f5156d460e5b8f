"""The command line: `dayfold COMMAND`. One module a family of commands."""
