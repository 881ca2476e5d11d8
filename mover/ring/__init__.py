"""The shared-memory ring between two processes and its counters."""
