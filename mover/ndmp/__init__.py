"""The NDMP protocol without any I/O: codec, framing, messages, tables."""
