"""`mover top`: the server's statistics, live on a terminal. Only this package imports Textual."""
