"""What is called how in the state directory, for the server and for who looks it over."""

from typing import Final

DATABASE: Final = "mover.sqlite"
CERTIFICATE: Final = "tls-certificate.pem"
KEY: Final = "tls-key.pem"
"""Of the secure ports, where the configuration names none; the key of mode 0600."""
