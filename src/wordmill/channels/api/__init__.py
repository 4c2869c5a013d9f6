"""The HTTP API: what the pages do, and OpenAI's wire format."""
