"""`audit.py LOCK...`: pip-audit on each lock.

Ends with 0 where nothing is known against any package, 1 where something is, and 2 where a package could not be looked
up: pip-audit itself calls that clean.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

OFFLINE = "audit: run `make audit` where https://pypi.org and its list of vulnerabilities can be reached"


def look_up(lock: str) -> list[dict[str, Any]] | None:
    """What pip-audit says of each package; None where it could not ask."""
    tool = Path(sys.executable).parent / "pip-audit"
    command = [str(tool), "--require-hashes", "--disable-pip", "--progress-spinner", "off", "-f", "json", "-r", lock]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    try:
        return list(json.loads(done.stdout)["dependencies"])
    except (ValueError, KeyError):
        return None


def judge(lock: str, packages: list[dict[str, Any]] | None) -> int:
    """Say what was found, on stdout; the code to end with."""
    if packages is None:
        print(f"{lock}: nothing was checked, since nobody answered")
        return 2
    found = [(package, one) for package in packages for one in package.get("vulns", [])]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    for package, one in found:
        mended = ", ".join(one["fix_versions"]) or "no release yet"
        print(f"{lock}: {package['name']} {package['version']}: {one['id']}, mended in {mended}")
    if skipped:
        print(f"{lock}: {len(skipped)} of {len(packages)} packages were not checked: {', '.join(skipped)}")
    if not found and not skipped:
        print(f"{lock}: nothing is known against its {len(packages)} packages")
    return 1 if found else 2 if skipped else 0


def main() -> int:
    codes = {judge(lock, look_up(lock)) for lock in sys.argv[1:]}
    if 2 in codes:
        print(OFFLINE)
    return 1 if 1 in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
