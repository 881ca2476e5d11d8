"""The admin socket's messages and its client."""

from mover.admin.client import AdminClient, NoControlProcessError, RefusedError

__all__ = ["AdminClient", "NoControlProcessError", "RefusedError"]
