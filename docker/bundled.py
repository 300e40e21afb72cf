"""What the wheels of an environment carry inside, as JSON on stdout: run it with that environment's Python.

An SBOM of Python packages ends at the wheel. auditwheel puts foreign libraries into `NAME.libs`, with the version of
their interface in the file's name; FFmpeg tells its own.
"""

import ctypes
import hashlib
import importlib.metadata
import json
import re
import sys
from pathlib import Path

FILE = re.compile(r"(?P<name>lib.+?)-[0-9a-f-]{8,}\.so(?:\.(?P<version>[0-9.]+))?")


def libraries() -> list[dict[str, object]]:
    """Every shared library beside a package: its package, name, interface version, file and SHA-256."""
    found = []
    for package in importlib.metadata.distributions():
        for file in package.files or []:
            match = FILE.fullmatch(file.name)
            if match is None or not file.parts[0].endswith(".libs"):
                continue
            content = Path(str(package.locate_file(file))).read_bytes()
            found.append(
                {
                    "package": package.name.lower().replace("_", "-"),
                    "name": match["name"],
                    "interface": match["version"] or "",
                    "file": file.name,
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            )
    return sorted(found, key=lambda library: (library["package"], library["file"]))


def ffmpeg() -> dict[str, str]:
    """Its release, licence and configuration, by its own word."""
    import av

    folder = Path(av.__file__).parents[1] / "av.libs"
    codec = ctypes.CDLL(str(next(folder.glob("libavcodec-*"))))
    codec.avcodec_license.restype = codec.avcodec_configuration.restype = ctypes.c_char_p
    return {
        "version": av.ffmpeg_version_info,
        "licence": codec.avcodec_license().decode(),
        "configuration": codec.avcodec_configuration().decode(),
    }


if __name__ == "__main__":
    json.dump({"ffmpeg": ffmpeg(), "libraries": libraries()}, sys.stdout, indent=1)
