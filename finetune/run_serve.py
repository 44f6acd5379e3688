"""`mindshift serve`: answer classification requests over HTTP.

mindshift serve --model DIR
"""

import importlib.util
import ipaddress
import os
import sys
from collections.abc import Sequence

from configs.console import start_console
from configs.errors import UserError, run_program
from configs.recipe import load_recipe
from finetune.deployment_config import ServeRecipe
from finetune.inference import Classifier

KEY_VARIABLE = "MINDSHIFT_API_KEY"
SHORTEST_KEY = 16


def main(arguments: Sequence[str], program: str) -> None:
    """Load the classifier and answer until interrupted."""
    recipe = load_recipe(ServeRecipe, arguments, program)
    for package in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"package {package!r} is not installed", where=program, fix="pip install -e '.[serve]'")
    import uvicorn

    from finetune.service import build_service

    api_key = read_key(recipe.host)
    service = build_service(Classifier.load(recipe.model), recipe, api_key=api_key)
    # Its lines hold addresses and paths; bodies, where the texts are, are in none of them.
    uvicorn.run(service, host=recipe.host, port=recipe.port, log_level="info", server_header=False)


def read_key(host: str) -> str | None:
    """Return the key that requests must carry, from the environment: a command line is seen by other users.

    Raises:
        UserError: the service would be reachable from elsewhere without one, or the key is short.
    """
    key = os.environ.get(KEY_VARIABLE) or None
    if key is None and not is_loopback(host):
        raise UserError(
            f"{host} is reachable from other machines, so a key is needed",
            where="host",
            fix=f"Set {KEY_VARIABLE} to {SHORTEST_KEY} or more random characters; requests send it as X-API-Key.",
        )
    if key is not None and len(key) < SHORTEST_KEY:
        raise UserError(f"the key is shorter than {SHORTEST_KEY} characters", where=KEY_VARIABLE)
    return key


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "mindshift serve")))
