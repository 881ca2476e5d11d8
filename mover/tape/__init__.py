"""The tape worker: drives, cartridges and the mover engine."""
