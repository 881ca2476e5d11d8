"""The snapshot helper: runs the commands that make and remove snapshots, and those before and after them."""
