"""The TOML configuration: structs, defaults, errors."""
