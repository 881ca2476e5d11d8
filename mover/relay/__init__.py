"""The relay worker: the one place where a ring meets a TCP data connection."""
