"""`mindshift studio`: open the local page. Only this machine reaches it unless a password is set."""

import asyncio
import logging
import socket
import sys
from collections.abc import Sequence

from configs.console import start_console
from configs.errors import UserError, run_program
from configs.recipe import load_recipe
from studio.config import StudioOptions

STUDIO_EXTRA = "Install it: pip install -e '.[studio]'"


def main(arguments: Sequence[str], program: str) -> None:
    """Serve the studio until Ctrl-C."""
    options = load_recipe(StudioOptions, arguments, program)
    password = options.password()
    try:
        import uvicorn

        from studio.app import build_app
    except ImportError as error:
        raise UserError(f"package {error.name!r} is not installed", fix=STUDIO_EXTRA) from None
    listener = _listen(options)
    port = listener.getsockname()[1]
    # The access log would hold addresses; no line ever holds a text.
    config = uvicorn.Config(build_app(options, password), log_level="warning", access_log=False)
    shown = f"[{options.host}]" if ":" in options.host else options.host
    print(f"studio: http://{shown}:{port}/  (Ctrl-C ends it)", flush=True)
    if options.public_name is not None:
        print(f"behind the proxy: https://{options.public_name}/", flush=True)
    elif not options.is_local:
        logging.getLogger("studio").warning(
            "others can reach this page without TLS; put a proxy in front of it (--public_name)"
        )
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


def _listen(options: StudioOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen there ({error.strerror})",
            where=f"{options.host}:{options.port}",
            fix="Choose another --port.",
        ) from error
    return listener


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "mindshift studio")))
