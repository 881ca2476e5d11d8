"""Makes the trees of scripts/scale: many entries that take little room."""

import os
from pathlib import Path
from typing import NamedTuple

FANOUT = 100  # directories in a directory, files in one of the lowest


class Shape(NamedTuple):
    """A tree of so many directories, each with so many empty files, each of which has further names beside it."""

    directories: int
    files: int  # in each directory
    names: int  # of each file

    @property
    def inodes(self) -> int:
        """Directories, those on the way and the root included, and files."""
        return self.directories + -(-self.directories // FANOUT) + 1 + self.directories * self.files

    @property
    def entries(self) -> int:
        """Names in the tree, and the root."""
        return self.inodes + self.directories * self.files * (self.names - 1)


def make_tree(root: Path, shape: Shape) -> None:
    """Make it below a new directory; two levels of directories, the files in the lower one."""
    root.mkdir()
    for number in range(shape.directories):
        directory = root / f"d{number // FANOUT:04}" / f"d{number % FANOUT:02}"
        directory.mkdir(parents=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for file in range(shape.files):
                name = f"file-{file:04}"
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=fd))
                for more in range(1, shape.names):
                    os.link(name, f"{name}.{more:02}", src_dir_fd=fd, dst_dir_fd=fd)
        finally:
            os.close(fd)


def change_files(root: Path, shape: Shape, count: int) -> None:
    """Give some files, spread over all of the tree, another content."""
    total = shape.directories * shape.files
    for place in range(0, total, max(1, total // count))[:count]:
        number, file = divmod(place, shape.files)
        path = root / f"d{number // FANOUT:04}" / f"d{number % FANOUT:02}" / f"file-{file:04}"
        path.write_text(f"changed {place}\n")
