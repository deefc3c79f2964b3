"""The user interfaces: command line, chat page and HTTP API."""
