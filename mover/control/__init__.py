"""The control process: listeners, NDMP connections, policy, supervision."""
