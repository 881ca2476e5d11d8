"""Record sizes that a DMA may set: powers of two, and multiples of what is none, up to a mebibyte."""

from typing import Final

POWERS: Final = [512 << power for power in range(12)]
OTHERS: Final = [
    1536, 2560, 3072, 7168, 10_240, 20_480, 3 << 14, 5 << 14, 63 << 10, 65 << 10, 192 << 10, 7 << 17, (1 << 20) - 512,
]  # fmt: skip
ODD: Final = [513, 4095, 65_535, (1 << 20) - 1]
RECORD_SIZES: Final = sorted([*POWERS, *OTHERS, *ODD])
