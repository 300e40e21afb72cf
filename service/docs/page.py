"""GET /docs: Swagger UI from this service's own files, under a policy that lets nothing else run."""

import base64
import hashlib
import re
from typing import Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

STATIC: Final = "/static-offline-docs"
"""Where fastapi-offline serves Swagger UI's files."""
INLINE_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
POLICY: Final = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def build_docs_page(app: FastAPI) -> Route:
    """The page never changes, so the only inline script that may run is known by its hash."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=f"{app.title} {app.version}",
        swagger_js_url=f"{STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{STATIC}/favicon.png",
    )
    page.headers["content-security-policy"] = docs_policy(bytes(page.body))

    async def docs(_: Request) -> Response:
        return page

    return Route("/docs", docs, include_in_schema=False)


def docs_policy(html: bytes) -> str:
    """Scripts come from this service, or are those in `html`; pictures may lie in its style sheet, as data."""
    hashes = [base64.b64encode(hashlib.sha256(script).digest()) for script in INLINE_SCRIPT.findall(html)]
    return POLICY.format(scripts=" ".join(f"'sha256-{digest.decode()}'" for digest in hashes))
