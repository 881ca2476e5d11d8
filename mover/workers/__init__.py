"""Worker messages, their socket, and the frame every worker's main loop stands in."""
