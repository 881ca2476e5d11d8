"""Builds the Debian package; scripts/make-deb tells the options.

Debian 12 has no msgspec and too old a trio, so the package brings what mover stands on: below /usr/lib/mover lies a
virtual environment whose interpreter is Debian's own. Workers are started with the interpreter of their control
process, and so find the same packages. Wheels are made for one version of Python, hence the narrow dependency.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from man_pages import man_pages

import mover
from mover.cli.completion import SHELLS, completion_script

CHECKOUT: Final = Path(__file__).resolve().parent.parent
REVISION: Final = 1
LIBRARY: Final = "usr/lib/mover"
CONFIGURATION_FILES: Final = ("etc/mover/mover.toml", "etc/pam.d/mover")
COMPLETIONS: Final = {
    "bash": "usr/share/bash-completion/completions/mover",
    "zsh": "usr/share/zsh/vendor-completions/_mover",
    "fish": "usr/share/fish/vendor_completions.d/mover.fish",
}
NOT_PACKAGED: Final = ("bin", "**/tests", "**/_tests", "**/__pycache__", "*.dist-info/RECORD", "*.dist-info/REQUESTED")
PROGRAM: Final = f"""#!/{LIBRARY}/bin/python3 -I
from mover.cli.main import main

main(prog_name="mover")
"""
CONTROL: Final = """Package: mover
Version: {version}
Architecture: {architecture}
Maintainer: mover maintainers <mover@localhost.localdomain>
Installed-Size: {size_kib}
Depends: python3 (>= {python}), python3 (<< {next_python}), libc6 (>= 2.34)
Suggests: mtx, mt-st, lvm2, btrfs-progs
Section: admin
Priority: optional
Description: NDMP server for Linux
 mover lets backup applications (DMAs) back up and recover this host over
 NDMP, versions 1 to 4, to tape drives and virtual tape libraries, here or on
 another host. It brings a small DMA and operator commands.
"""
EXAMPLES: Final = ("prometheus/mover-rules.yml", "grafana/mover-dashboard.json")
COPYRIGHT: Final = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: mover
Comment: What lies in /{library}/lib beside mover are packages of others; the
 licence of each is in its .dist-info directory there.

Files: *
Copyright: 2026 the mover authors
License: Apache-2.0
 On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.
"""
CHANGELOG: Final = """mover ({version}) unstable; urgency=medium

  * Built from the checkout by scripts/make-deb.

 -- mover maintainers <mover@localhost.localdomain>  {date}
"""
# What lintian says of a package that brings its own environment, and what is meant so.
OVERRIDES: Final = """# The environment is in a directory of its own and compiled: nothing is written there later.
mover: package-installs-python-pycache-dir
mover: package-contains-documentation-outside-usr-share-doc
mover: extra-license-file
mover: embedded-library
mover: unstripped-binary-or-object
mover: hardening-no-bindnow
# The environment's interpreter is Debian's, as in every virtual environment.
mover: absolute-symlink-in-top-level-folder
mover: wrong-path-for-interpreter
mover: unusual-interpreter
# The configuration may hold passwords.
mover: non-standard-dir-perm
mover: non-standard-file-perm
# As debhelper writes it.
mover: command-with-path-in-maintainer-script
# Built by who installs it.
mover: bogus-mail-host
mover: bogus-mail-host-in-debian-changelog
mover: initial-upload-closes-no-bugs
"""


class BuildError(Exception):
    """No package: one line that says why."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make-deb", add_help=False)
    parser.add_argument("--output", type=Path, default=CHECKOUT / "dist")
    parser.add_argument("--python", default="/usr/bin/python3")
    options = parser.parse_args()
    try:
        print(build(options.output, options.python))
    except (BuildError, OSError) as error:
        print(f"make-deb: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"make-deb: {error.cmd[0]} failed:\n{error.stderr}", file=sys.stderr)
        return 1
    return 0


def build(output: Path, python: str) -> Path:
    """Build the package; returns its path."""
    if shutil.which("dpkg-deb") is None:
        raise BuildError("needs dpkg-deb, which Debian and Ubuntu have")
    version = _python_version(python)
    moment = _moment()
    architecture = _run("dpkg", "--print-architecture").strip()
    name = f"{mover.__version__}-{REVISION}"
    with tempfile.TemporaryDirectory(prefix="mover-deb.") as scratch:
        root = Path(scratch) / "root"
        _environment(root, python, version)
        _program(root, python, version)
        _documents(root, name, moment)
        _configuration(root)
        _control(root, name, architecture, version)
        _settle(root, moment)
        output.mkdir(parents=True, exist_ok=True)
        package = output.resolve() / f"mover_{name}_{architecture}.deb"
        _run(
            "dpkg-deb", "--root-owner-group", "-Zxz", "-z2", "--threads-max=1", "--build", str(root), str(package),
            SOURCE_DATE_EPOCH=str(moment),
        )  # fmt: skip
    return package


def _run(*arguments: str, **variables: str) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **variables}
    return subprocess.run(arguments, env=environment, check=True, capture_output=True, text=True).stdout


def _python_version(python: str) -> tuple[int, int]:
    """Of the Python it will run under; pip chooses wheels for the one that runs us."""
    told = _run(python, "-I", "-c", "import sys; print(*sys.version_info[:2])").split()
    version = (int(told[0]), int(told[1]))
    if version != sys.version_info[:2]:
        ours = ".".join(map(str, sys.version_info[:2]))
        raise BuildError(
            f"{python} is Python {version[0]}.{version[1]} and .venv is {ours}: PYTHON={python} makes another"
        )
    return version


def _moment() -> int:
    """The time that stands in the package: SOURCE_DATE_EPOCH, else that of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None:
        return int(given)
    try:
        return int(_run("git", "-C", str(CHECKOUT), "log", "-1", "--format=%ct"))
    except (OSError, subprocess.CalledProcessError):  # no checkout of git: an unpacked archive
        return int((CHECKOUT / "pyproject.toml").stat().st_mtime)


def _site_packages(root: Path, version: tuple[int, int]) -> Path:
    return root / LIBRARY / "lib" / f"python{version[0]}.{version[1]}" / "site-packages"


def _environment(root: Path, python: str, version: tuple[int, int]) -> None:
    """What mover stands on, by pip, and a virtual environment around it."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["pam"]]
    packages = _site_packages(root, version)
    _run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-compile",
        "--only-binary", ":all:", "--constraint", str(CHECKOUT / "constraints.txt"), "--target", str(packages), *wanted,
    )  # fmt: skip
    for pattern in NOT_PACKAGED:
        for path in list(packages.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    (root / LIBRARY / "bin").mkdir()
    (root / LIBRARY / "bin" / "python3").symlink_to(python)
    (root / LIBRARY / "pyvenv.cfg").write_text(
        f"home = {Path(python).parent}\ninclude-system-site-packages = false\nversion = {version[0]}.{version[1]}\n"
    )


def _program(root: Path, python: str, version: tuple[int, int]) -> None:
    """mover itself, all of it compiled: a worker starts in a third of the time."""
    packages = _site_packages(root, version)
    shutil.copytree(CHECKOUT / "mover", packages / "mover", ignore=shutil.ignore_patterns("__pycache__"))
    _run(
        python, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/",
        str(packages), PYTHONHASHSEED="0",
    )  # fmt: skip
    _write(root / "usr/bin/mover", PROGRAM, mode=0o755)


def _documents(root: Path, version: str, moment: int) -> None:
    for name, page in man_pages(CHECKOUT, moment).items():
        _gzip(root / f"usr/share/man/man{name[-1]}" / f"{name}.gz", page)
    for shell in SHELLS:
        _write(root / COMPLETIONS[shell], completion_script(shell))
    for document in (CHECKOUT / "docs").glob("*.md"):  # as in the checkout: the README's links lead there
        _write(root / "usr/share/doc/mover/docs" / document.name, document.read_text())
    _write(root / "usr/share/doc/mover/README.md", (CHECKOUT / "README.md").read_text())
    for example in EXAMPLES:
        _write(
            root / "usr/share/doc/mover/examples" / Path(example).name, (CHECKOUT / "packaging" / example).read_text()
        )
    _write(root / "usr/share/doc/mover/copyright", COPYRIGHT.format(library=LIBRARY))
    date = _run("date", "--utc", "--rfc-email", f"--date=@{moment}").strip()
    _gzip(root / "usr/share/doc/mover/changelog.Debian.gz", CHANGELOG.format(version=version, date=date))
    _write(root / "usr/share/lintian/overrides/mover", OVERRIDES)


def _configuration(root: Path) -> None:
    packaging = CHECKOUT / "packaging"
    _write(root / "etc/mover/mover.toml", (packaging / "mover.toml").read_text(), mode=0o640)
    _write(root / "etc/pam.d/mover", (packaging / "mover.pam").read_text())
    _write(root / "lib/systemd/system/mover.service", (packaging / "mover.service").read_text())


def _control(root: Path, name: str, architecture: str, version: tuple[int, int]) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    told = CONTROL.format(
        version=name,
        architecture=architecture,
        size_kib=sum((path.stat().st_size + 1023) // 1024 for path in files),
        python=f"{version[0]}.{version[1]}",
        next_python=f"{version[0]}.{version[1] + 1}",
    )
    sums = "".join(
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}\n"
        for path in files
        if str(path.relative_to(root)) not in CONFIGURATION_FILES
    )
    _write(root / "DEBIAN/control", told)
    _write(root / "DEBIAN/md5sums", sums)
    _write(root / "DEBIAN/conffiles", "".join(f"/{path}\n" for path in CONFIGURATION_FILES))
    for script in ("postinst", "prerm", "postrm"):
        _write(root / "DEBIAN" / script, (CHECKOUT / "packaging" / script).read_text(), mode=0o755)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _gzip(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = subprocess.run(["gzip", "-9n"], input=text.encode(), check=True, capture_output=True).stdout
    path.write_bytes(packed)


def _settle(root: Path, moment: int) -> None:
    """Modes and times that depend on nothing but the checkout."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            kept = path.stat().st_mode & 0o777
            if path.is_dir():
                path.chmod(0o750 if path == root / "etc/mover" else 0o755)
            elif kept != 0o640:
                path.chmod(0o755 if kept & 0o100 and path.suffix != ".so" else 0o644)
        os.utime(path, (moment, moment), follow_symlinks=False)


if __name__ == "__main__":
    sys.exit(main())
