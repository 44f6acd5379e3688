"""Where people find help; printed in every card. Numbers change: check them before a release."""

HELPLINES = (
    "In immediate danger: your local emergency number (911 in North America, 112 in Europe, 999 in the UK, 000 in "
    "Australia).",
    "Anywhere: [findahelpline.com](https://findahelpline.com) lists free helplines by country.",
    "United States and Canada: call or text 988 (Suicide & Crisis Lifeline).",
    "United Kingdom and Ireland: Samaritans, 116 123.",
    "Germany: TelefonSeelsorge, 0800 111 0 111 or 116 123. Austria: 142. Switzerland: 143.",
    "France: 3114. Netherlands: 113. Spain: 024. Italy: Telefono Amico, 02 2327 2327.",
    "Australia: Lifeline, 13 11 14. New Zealand: call or text 1737.",
    "India: Tele-MANAS, 14416. Japan: #いのちSOS, 0120-061-338. Brazil: CVV, 188.",
)
