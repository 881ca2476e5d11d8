"""Worker messages, their socket, and the frame every worker's main loop stands in.

The door between control and a worker: :mod:`mover.workers.messages` names every message,
:mod:`mover.workers.channel` carries them with descriptors, :mod:`mover.workers.frame` runs a worker.
"""
