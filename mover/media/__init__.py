"""What stands at the beginning of a tape file: the labels of backup programs, ours among them, and streams; no I/O."""

from mover.media.identify import HEAD_BYTES, Identified, Kind, identify
from mover.media.label import LABEL_BYTES, Label, LabelError, check_name, decode_label, encode_label

__all__ = [
    "HEAD_BYTES",
    "LABEL_BYTES",
    "Identified",
    "Kind",
    "Label",
    "LabelError",
    "check_name",
    "decode_label",
    "encode_label",
    "identify",
]
