"""What users touch: the command line, the chat page, the HTTP API."""
