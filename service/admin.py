"""What only the operator of this replica may do; the routes exist where an admin token is set."""

import hmac

from fastapi import APIRouter, Request

from service import schemas
from service.access.access import Access, bearer_token
from service.bundles.reload import Entry
from service.docs.openapi import problems
from service.errors import AccessFilesRefused, Forbidden, Unauthenticated
from service.lifecycle import Lifecycle
from service.settings import Settings, SettingsError


def admin_token(settings: Settings) -> str | None:
    """PKDOT_ADMIN_TOKEN, or the content of PKDOT_ADMIN_TOKEN_FILE; None where neither is set. Raises SettingsError."""
    if settings.admin_token is not None:
        return settings.admin_token.get_secret_value().strip()  # a line end comes with many a secret store
    file = settings.admin_token_file
    if file is None:
        return None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"PKDOT_ADMIN_TOKEN_FILE={file} cannot be read: {error}") from error
    if not token:
        raise SettingsError(f"PKDOT_ADMIN_TOKEN_FILE={file} is empty; write the token into it")
    return token


def build_admin_router(lifecycle: Lifecycle, access: Access, token: str) -> APIRouter:
    """The routes that `token` opens."""
    router = APIRouter(prefix="/admin", tags=["admin"])

    @router.post("/bundles/reload", response_model=schemas.ReloadReply, responses=problems("admin"))
    async def reload(request: Request) -> schemas.ReloadReply:
        """Read keys, certificates and the folders of bundles again, on this replica only."""
        require_token(request, token)
        try:
            done = await lifecycle.require().reloader.reload(access.reload)
        except SettingsError as error:
            raise AccessFilesRefused(str(error)) from None
        return schemas.ReloadReply(
            loaded=replies(done.loaded), kept=replies(done.kept), removed=replies(done.removed), took_s=done.took_s
        )

    return router


def require_token(request: Request, token: str) -> None:
    """Raise Unauthenticated where no bearer token was sent, and Forbidden where it is not this one."""
    given = bearer_token(request.headers.raw)
    if given is None:
        raise Unauthenticated("this address needs the admin token, as Authorization: Bearer TOKEN")
    # Compared in constant time; headers are read as latin-1, so this gives back the bytes that came.
    if not hmac.compare_digest(given.encode("latin-1"), token.encode()):
        raise Forbidden("the token is not the admin token of this replica")


def replies(entries: list[Entry]) -> list[schemas.BundleEntry]:
    return [schemas.BundleEntry(**entry._asdict()) for entry in entries]
