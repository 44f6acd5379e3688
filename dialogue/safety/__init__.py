"""The layer around the responder: screens what comes in and what goes out. Not a diagnosis, not a crisis service."""

from dialogue.safety.encoder import load_encoder
from dialogue.safety.helplines import CHECKED_ON, Helpline, check_locale, helplines
from dialogue.safety.outgoing import screen_reply
from dialogue.safety.replies import WITHHELD, fixed_reply
from dialogue.safety.screening import Route, Turn, Verdict, screen_conversation

__all__ = [
    "CHECKED_ON",
    "WITHHELD",
    "Helpline",
    "Route",
    "Turn",
    "Verdict",
    "check_locale",
    "fixed_reply",
    "helplines",
    "load_encoder",
    "screen_conversation",
    "screen_reply",
]
