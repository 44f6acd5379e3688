"""The fixed words for every route that never reaches the generator.

Plain, warm and short; they name people and numbers, ask for one step, promise nothing, and say that a program is
speaking. No diagnosis, no medicine, no dose, no promise of secrecy.
"""

from collections.abc import Sequence

from dialogue.safety.helplines import Helpline, helplines
from dialogue.safety.screening import Route, Verdict

PROGRAM = "I am a program, not a person, and I cannot see you or send help."
CRISIS = (
    "I am really glad you wrote this. It sounds as if you are carrying more than anyone should carry alone, and your "
    f"safety matters more than anything else here. {PROGRAM} Please talk to a person now:"
)
THIRD_PERSON = (
    "Thank you for looking out for them. It is hard to hear that somebody may be in danger, and it is right to take "
    f"it seriously. {PROGRAM} These lines also advise people who worry about someone else:"
)
THIRD_PERSON_STEPS = (
    "If you can, stay with them or keep them on the phone, ask them directly whether they are thinking of suicide "
    "(asking does not plant the idea), and bring another person in. Do not keep it a secret, even if you promised to."
)
EMERGENCY = "If anything has been taken or there is an injury, or if somebody is in danger right now, call first: "
CRISIS_STEPS = (
    "If you can, move away from anything you could hurt yourself with, and tell one person near you, in any words at "
    "all, that you are not safe on your own right now. You do not have to explain it well."
)
HARM_OTHERS = (
    "Thank you for saying it out loud. Before anything happens, please get some distance from the people you could "
    f"hurt, and from anything you could use. {PROGRAM} These people can help you get through the next hours:"
)
ABUSE = (
    "I am sorry this is happening, and I believe it matters. It is not your fault. "
    f"{PROGRAM} These people know what can be done, also quietly and step by step:"
)
ABUSE_STEPS = "If someone is checking your phone, think about deleting this chat or calling from another phone."
MEDICAL = (
    "That is a question I must not answer: I am a program, and I can neither diagnose nor advise on a medicine or a "
    "dose. A doctor or a pharmacist can, and it is fine to call them with just this question. Please do not start, "
    "stop or change a medicine before you have. If you feel very unwell, or took more than you should, call "
)
MEDICAL_END = " I am glad to listen to how you are doing with all of this."
ABOUT_PROGRAM = (
    "I am a program, not a person, a doctor or a therapist. This window keeps no transcript unless whoever runs it "
    "chose to, but I cannot promise confidentiality, so please do not write what nobody else may ever see. I can "
    "make mistakes. For anything serious, a person is the better listener."
)
WITHHELD = (
    "I would rather not say what came to my mind there: I am a program, and I should not guess at diagnoses, "
    "medicines or promises. I am listening, though. What has been the hardest part of it for you?"
)


def fixed_reply(verdict: Verdict, locale: str | None = None) -> str:
    """Return the words for a verdict other than `ok`, with the helplines of a locale such as `en_GB`.

    Raises:
        ValueError: the verdict is `ok`; there are no fixed words for an ordinary message.
    """
    emergency = " or ".join(helpline.contact for helpline in helplines("emergency", locale))
    if verdict.route == Route.CRISIS:
        first, steps = CRISIS, CRISIS_STEPS
        if any(reason.endswith("harm_others") for reason in verdict.reasons):
            first, steps = HARM_OTHERS, CRISIS_STEPS
        elif verdict.reasons and set(verdict.reasons) == {"third_person"}:  # the writer's own danger comes first
            first, steps = THIRD_PERSON, THIRD_PERSON_STEPS
        return "\n".join((first, *_listed(helplines("crisis", locale)), EMERGENCY + emergency + ".", steps))
    if verdict.route == Route.ABUSE:
        lines = helplines("abuse", locale) + helplines("child", locale)
        return "\n".join((ABUSE, *_listed(lines), EMERGENCY + emergency + ".", ABUSE_STEPS))
    if verdict.route == Route.MEDICAL_ADVICE:
        return MEDICAL + emergency + "." + MEDICAL_END
    if verdict.route == Route.ABOUT_PROGRAM:
        return ABOUT_PROGRAM
    raise ValueError("an ordinary message has no fixed reply")


def _listed(lines: Sequence[Helpline]) -> list[str]:
    return [f"  {line}" for line in dict.fromkeys(lines)]
