"""Looks over a host and its configuration, with the server running or not, and changes nothing: `mover doctor`."""
