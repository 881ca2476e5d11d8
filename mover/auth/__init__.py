"""The auth helper: asks the host about its users, in a process of its own."""
