"""The HTTP API: OpenAI's chat completions and typed emotions over one shared model."""
