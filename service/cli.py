"""The commands `pkdot serve`, `pkdot bundle` and `pkdot keys`."""

import argparse
import contextlib
import gc
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from models import bundle as bundle_format
from models.bundle import BundleError
from service.access.cli import add_keys
from service.access.dumps import forbid_dumps
from service.app import create_app
from service.bundles.loader import BundleLoader
from service.environment import read_settings, settings_table
from service.lifecycle import Resources
from service.runtime.providers import Providers, ProvidersError
from service.sandbox.sandbox import describe
from service.server import Server, refuse_foreign
from service.settings import Settings, SettingsError
from service.telemetry.logs import set_up_logging
from service.threads.plan import available_cores, plan_threads
from service.version import VERSION

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: "Commands") -> None:
    """Add the commands; each sets `run`, which takes the parsed arguments and returns the exit code."""
    add_serve(commands)
    add_keys(commands)
    bundle = commands.add_parser(
        "bundle", help="check a bundle, or print its card", epilog="example: pkdot bundle check runs/demo/bundles/pain"
    )
    actions = bundle.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="verify files, schema and golden inputs",
        epilog="example: pkdot bundle check runs/demo/bundles/pain",
    )
    card = actions.add_parser(
        "card", help="print the model card", epilog="example: pkdot bundle card runs/demo/bundles/pain"
    )
    for parser, run in ((check, check_bundle), (card, print_card)):
        parser.add_argument("folder", type=Path, metavar="DIR", help="the bundle's folder")
        parser.add_argument("--json", action="store_true", help="print one JSON object for machines")
        parser.set_defaults(run=run)


def add_serve(commands: "Commands") -> None:
    serve = commands.add_parser(
        "serve",
        help="answer over HTTP",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Load bundles and answer over HTTP until SIGTERM or Ctrl-C.",
        epilog="example: pkdot serve --bundles runs/demo/bundles --port 8000\n\n"
        f"environment (default):\n{settings_table()}",
    )
    serve.add_argument("--bundles", metavar="DIR", help="one bundle, or a folder of bundles")
    serve.add_argument("--host", help="address to listen on")
    serve.add_argument("--port", type=int, help="port to listen on; 0 takes a free one")
    serve.add_argument("--json", action="store_true", help="print one JSON object when ready")
    serve.set_defaults(run=run_serve)


def run_serve(arguments: argparse.Namespace) -> int:
    """`pkdot serve`: 0 after a clean stop, 1 where the bundles cannot serve, 2 for impossible settings."""
    try:
        settings, warnings = read_settings(
            os.environ, bundles=arguments.bundles, host=arguments.host, port=arguments.port
        )
    except SettingsError as error:
        return say(str(error), code=2)
    set_up_logging(settings.log_format)
    forbid_dumps()
    for warning in warnings:
        say(f"warning: {warning}")
    try:
        refuse_foreign(settings.host)
        app = create_app(settings)
    except SettingsError as error:
        return say(str(error), code=2)

    def ready(port: int) -> None:
        gc.collect()
        gc.freeze()  # what is loaded by now stays: to look through it for garbage again and again is in vain
        announce(app.state.lifecycle.require(), settings, port, arguments.json)

    server = Server(app, settings, ready)
    try:
        server.run()
    except SystemExit:  # uvicorn's way to say that it cannot listen, with an exit code of its own
        return say(f"{settings.host}:{settings.port} cannot be listened on; is another service there?", code=1)
    return server.exit_code


def announce(resources: Resources, settings: Settings, port: int, as_json: bool) -> None:
    """Say what serves, with what, and within which limits."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    scheme = "http" if settings.tls_cert_file is None else "https"
    plan, address = resources.plan, f"{scheme}://{host}:{port}"
    for loaded in resources.shelf.bundles:
        manifest = loaded.bundle.manifest
        drawn = ", trained on drawn faces" if manifest.provenance.synthetic else ""
        say(f"bundle {loaded.name} {loaded.bundle.version}: {loaded.task}, {len(manifest.graphs)} graphs{drawn}")
    for kind, tried, candidates in (
        ("canary", resources.shelf.canaries, settings.canary),
        ("shadow", resources.shelf.shadows, settings.shadow),
    ):
        if candidates is not None:
            listed = ", ".join(" ".join(loaded.identity) for loaded in tried) or f"none, {candidates.folder} is empty"
            say(f"{kind} ({candidates.share:g}): {listed}")
    say(f"provider {resources.providers.names[0]}")
    say(describe(resources.sandbox))
    say(
        f"threads: {plan.cores} cores, {plan.intra_op} inside a graph, {plan.lanes} runs of graphs at once, "
        f"{plan.decoders} decoders"
    )
    say(
        f"limits: {settings.max_upload_bytes} bytes, {settings.max_duration_s:g} s, {settings.max_pixels} pixels, "
        f"{settings.max_frames} frames, {settings.max_concurrent_requests} requests at once"
    )
    say(f"pkdot {VERSION} is ready on {address}")
    if as_json:
        names = [loaded.name for loaded in resources.shelf.bundles]
        print(json.dumps({"url": address, "bundles": names, "provider": resources.providers.names[0]}), flush=True)


def check_bundle(arguments: argparse.Namespace) -> int:
    """`pkdot bundle check`: files, schema, and every golden input through the runtime that serves."""
    try:
        providers = Providers.choose()
        plan = plan_threads(available_cores(), providers.on_gpu)
        loaded = BundleLoader(providers, plan).load(arguments.folder)
    except (BundleError, ProvidersError) as error:
        if arguments.json:
            print(json.dumps({"ok": False, "error": str(error)}))
        return say(str(error), code=1)
    manifest = loaded.bundle.manifest
    graphs = "1 golden graph is" if len(manifest.graphs) == 1 else f"{len(manifest.graphs)} golden graphs are"
    facts = {"ok": True, "name": loaded.name, "version": loaded.bundle.version, "task": loaded.task}
    if arguments.json:
        print(json.dumps(facts | {"graphs": len(manifest.graphs), "provider": providers.names[0]}))
    else:
        print(
            f"{loaded.name} {loaded.bundle.version} ({loaded.task}): {len(manifest.files)} files and "
            f"{graphs} right on {providers.names[0]}"
        )
    return 0


def print_card(arguments: argparse.Namespace) -> int:
    """`pkdot bundle card`: the card that the bundle carries."""
    try:
        bundle = bundle_format.load(arguments.folder)
    except BundleError as error:
        return say(str(error), code=1)
    card = bundle.file("card.md")
    if not card.is_file():
        return say(f"{bundle.manifest.name} carries no card.md; export it again", code=1)
    text = card.read_text(encoding="utf-8")
    print(
        json.dumps({"name": bundle.manifest.name, "version": bundle.version, "card": text}) if arguments.json else text
    )
    return 0


def say(message: str, *, code: int = 0) -> int:
    """A line on stderr; returns `code`."""
    with contextlib.suppress(OSError):  # as of the log: nobody reads it, or the disk is full
        print(f"pkdot: {message}", file=sys.stderr, flush=True)
    return code
