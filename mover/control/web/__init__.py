"""What operators reach by HTTP, all of it to be read only: /metrics for Prometheus, the status page and its events.

One listener, at node.metrics; ``Web.serve`` answers there. The layers, from the socket up: ``http_server`` (who may
connect), ``http_connection`` (one conversation, deadlines), ``access`` (who may read), ``routes`` (what there is), and
what is read: ``metrics``, ``page``, ``events``.
"""

from mover.control.web.routes import Web

__all__ = ["Web"]
