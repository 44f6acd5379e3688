"""What `mindshift studio` is asked for."""

import dataclasses
import ipaddress
import os
from pathlib import Path

from configs.errors import UserError
from configs.recipe import require
from dialogue.safety import check_locale

PASSWORD_VARIABLE = "MINDSHIFT_STUDIO_PASSWORD"
LEAST_PASSWORD_CHARACTERS = 12


@dataclasses.dataclass(kw_only=True)
class StudioOptions:
    """Open a local page over run folders. It logs no text, sends nothing anywhere, and is no diagnosis."""

    runs: Path = Path("runs")
    """Folder below which finished and running stages are looked for."""
    encoder: Path | None = None
    """Adapted encoder for fill-mask; without it the newest one found."""
    base: str | None = None
    """Base model beside it; without it the one its manifest names."""
    classifier: Path | None = None
    """Classifier to try; without it the newest one found."""
    responder: str | None = None
    """Responder to chat with; without it the newest one found."""
    locale: str | None = None
    """Whose helplines are named, such as `en_GB`; without it those of the system's language settings."""
    host: str = "127.0.0.1"
    """Address to listen on; any but this machine's own needs a password."""
    port: int = 7860
    """Port to listen on; 0 takes a free one."""
    password_file: Path | None = None
    """File whose first line is the password; MINDSHIFT_STUDIO_PASSWORD in the environment does the same."""

    def __post_init__(self) -> None:
        """Refuse impossible values by name."""
        require(0 <= self.port < 65536, "port", self.port, "0 to 65535")
        check_locale(self.locale)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the page."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def password(self) -> str | None:
        """Return the password, if one is set.

        Raises:
            UserError: none although others could reach the page, one that is too short, or an unreadable file.
        """
        password = os.environ.get(PASSWORD_VARIABLE)
        if self.password_file is not None:
            try:
                password = (self.password_file.read_text(encoding="utf-8").splitlines() or [""])[0]
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"cannot be read ({type(error).__name__})", where=self.password_file) from error
        if password is None and not self.is_local:
            raise UserError(
                f"listening on {self.host} lets others reach the page, and no password is set",
                where="studio",
                fix=f"Give --password_file FILE or set {PASSWORD_VARIABLE}, or leave --host at 127.0.0.1.",
            )
        if password is not None and len(password) < LEAST_PASSWORD_CHARACTERS:
            raise UserError(
                "the password is too short", where="studio", fix=f"Use {LEAST_PASSWORD_CHARACTERS} characters or more."
            )
        return password
