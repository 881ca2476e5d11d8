"""The built-in DMA: an NDMP client and the jobs it runs."""
