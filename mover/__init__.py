"""mover: an NDMP server for Linux (data, tape and SCSI services) and its small built-in DMA."""

__version__ = "0.1.0"
