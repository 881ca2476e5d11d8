"""The one error of this room."""


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line naming file, key and value."""
