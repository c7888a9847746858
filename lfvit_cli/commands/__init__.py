"""The commands, one a file: read options, call the library, show the result."""
