"""Complete an SBOM of Python packages by what lies inside the wheels, and list all licences.

`sbom.py PYTHON.cdx.json BUNDLED.json FOLDER` writes FOLDER/pkdot.cdx.json and FOLDER/licences.md.
"""

import json
import sys
from pathlib import Path
from typing import Any

FFMPEG = ("libavcodec", "libavdevice", "libavfilter", "libavformat", "libavutil", "libswresample", "libswscale")
LICENCES = {
    **dict.fromkeys(FFMPEG, "LGPL-3.0-or-later"),
    "libx264": "GPL-2.0-or-later",
    "libx265": "GPL-2.0-or-later",
    "libSvtAv1Enc": "BSD-3-Clause-Clear",
    "libXau": "MIT",
    "libasound": "LGPL-2.1-or-later",
    "libdav1d": "BSD-2-Clause",
    "libdrm": "MIT",
    "libgmp": "LGPL-3.0-or-later OR GPL-2.0-or-later",
    "libgnutls": "LGPL-2.1-or-later",
    "libhogweed": "LGPL-3.0-or-later OR GPL-2.0-or-later",
    "libnettle": "LGPL-3.0-or-later OR GPL-2.0-or-later",
    "libmp3lame": "LGPL-2.0-or-later",
    "libopencore-amrnb": "Apache-2.0",
    "libopencore-amrwb": "Apache-2.0",
    "libopus": "BSD-3-Clause",
    "libsharpyuv": "BSD-3-Clause",
    "libwebp": "BSD-3-Clause",
    "libwebpmux": "BSD-3-Clause",
    "libunistring": "LGPL-3.0-or-later OR GPL-2.0-or-later",
    "libvpl": "MIT",
    "libvpx": "BSD-3-Clause",
    "libxcb": "MIT",
    "libxcb-shape": "MIT",
    "libxcb-shm": "MIT",
    "libxcb-xfixes": "MIT",
    "libgfortran": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "libquadmath": "LGPL-2.1-or-later",
    "libscipy_openblas64_": "BSD-3-Clause",
    "protobuf": "BSD-3-Clause",
}
"""As their projects publish them; a wheel does not say. FFmpeg's own word is beside its component."""


def components(bundled: dict[str, Any], package: str) -> list[dict[str, Any]]:
    """What one wheel carries, in CycloneDX's form; for av with FFmpeg as a whole before its libraries."""
    found = [component(library) for library in bundled["libraries"] if library["package"] == package]
    if package != "av":
        return found
    ffmpeg = bundled["ffmpeg"]
    whole = {
        "type": "library",
        "bom-ref": f"av/ffmpeg@{ffmpeg['version']}",
        "name": "ffmpeg",
        "version": ffmpeg["version"],
        "cpe": f"cpe:2.3:a:ffmpeg:ffmpeg:{ffmpeg['version']}:*:*:*:*:*:*:*",
        "licenses": [{"license": {"name": ffmpeg["licence"]}}],
        "properties": [{"name": "pkdot:configuration", "value": ffmpeg["configuration"]}],
    }
    return [whole, *found]


def component(library: dict[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"{library['package']}/{library['file']}",
        "name": library["name"],
        "hashes": [{"alg": "SHA-256", "content": library["sha256"]}],
        "properties": [
            {"name": "pkdot:file", "value": library["file"]},
            {"name": "pkdot:interface-version", "value": library["interface"]},
        ],
    }
    if library["name"] in LICENCES:
        made["licenses"] = [{"expression": LICENCES[library["name"]]}]
    return made


def licence_of(part: dict[str, Any]) -> str:
    """One line of what a component says of itself, or what is known of it."""
    said = []
    for entry in part.get("licenses", []):
        licence = entry.get("license", {})
        said.append(entry.get("expression") or licence.get("id") or licence["name"].rpartition(" :: ")[2])
    return "; ".join(dict.fromkeys(said)) or LICENCES.get(part["name"], "not stated")


def licence_table(parts: list[dict[str, Any]]) -> str:
    rows = ["| package | version | licence |", "| --- | --- | --- |"]
    for part in parts:
        rows.append(f"| {part['name']} | {part.get('version', '')} | {licence_of(part)} |")
        rows += [
            f"| &emsp;{inner['name']} | {inner.get('version', '')} | {licence_of(inner)} |"
            for inner in part.get("components", [])
        ]
    return "\n".join(rows) + "\n"


def main() -> None:
    python, inside, folder = map(Path, sys.argv[1:])
    document, bundled = json.loads(python.read_text()), json.loads(inside.read_text())
    for part in document["components"]:
        if carried := components(bundled, part["name"].lower().replace("_", "-")):
            part["components"] = carried
    (folder / "pkdot.cdx.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (folder / "licences.md").write_text(licence_table(document["components"]), encoding="utf-8")


if __name__ == "__main__":
    main()
