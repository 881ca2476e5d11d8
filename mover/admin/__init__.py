"""The admin socket's messages and its client."""
