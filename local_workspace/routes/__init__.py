"""Answer the requests of each API; one module for each."""
