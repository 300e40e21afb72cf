"""`python -m service.probe`: the image's health check. Ends with 0 where the service beside it is alive, else with 1.

Asks at the settings' address and port (by the loopback where these are all addresses, as Linux has it), and by TLS
where that is on: whose certificate it is does not matter here.
"""

import http.client
import os
import ssl
import sys
from collections.abc import Mapping

TIMEOUT_S = 2.0


def is_alive(environment: Mapping[str, str]) -> bool:
    given = environment.get("PKDOT_PORT", "")
    port = int(given) if given and "://" not in given else 8000  # Kubernetes sets it for a service named pkdot
    host = environment.get("PKDOT_HOST") or "127.0.0.1"
    connection: http.client.HTTPConnection
    if environment.get("PKDOT_TLS_CERT_FILE"):
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_alive(os.environ) else 1)
