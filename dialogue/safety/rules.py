"""Rules over one sentence of plain words: what is said outright, and what only sounds like it.

`spelling.plain_words` comes first. `strip_harmless` takes out what an idiom, a denial, a story or a recovered past
explains away; `explicit_signals` then names what is left in so many words; `has_cue` tells whether a sentence
touches the subject at all, so that the classifier must be far surer of a sentence that does not. Rules were written
from clinical screening questions (C-SSRS, ASQ) and the confusions that published chat filters report; none of them
stems from a person's post.
"""

import re
from typing import NamedTuple

SELF = r"(?:myself|himself|herself|themselves|themself|yourself|ourselves|oneself)"
MY = r"(?:my|his|her|their|your|our|one's|the|ur)"
UP_TO_3 = r"(?:\w+ ){0,3}"
UP_TO_5 = r"(?:\w+ ){0,5}"
PILLS = r"(?:pills?|tablets?|medications?|paracetamol|tylenol|painkillers?|ibuprofen|antidepressants|capsules|sleeping \w+|insulin|xanax|advil|aspirin)"
NO_LIFE = (
    r"(?:die|be dead|be dying|not be alive|not exist|not live|not be here anymore|not wake up|never wake up"
    r"|stop (?:existing|living|being alive|breathing)|cease to exist|disappear (?:forever|for good|permanently)|vanish forever"
    r"|be erased|(?:leave|exit) (?:this|the) (?:world|earth|life|planet)|leave life|sleep forever|(?:not be|be no) more"
    r"|go to sleep and (?:never|not) wake up|fall asleep and (?:never|not) wake up|be gone (?:forever|for good)|kill me)"
)
WANT = (
    r"(?:want(?:s|ed|ing)?|wish(?:es|ed|ing)?|hop(?:e|es|ed|ing)|need(?:s|ed)?|ready|deserves?|rather|love|like|prefer|longing|long"
    r"|going|tr(?:y|ied|ying)|decided|plan(?:s|ned|ning)?|might|should|could|would|will|may|must|have|about|pray(?:ing|ed)?|crave|dream|urge"
    r"|thinking of|thoughts? of|desire|let me|better|happier|easier|time|want me|chose|choose)"
)


class Signal(NamedTuple):
    """Something a sentence says outright."""

    label: str
    name: str


def _compiled(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern) for pattern in patterns)


# label, name, patterns. The first that matches names the reason.
EXPLICIT: tuple[tuple[str, str, tuple[re.Pattern[str], ...]], ...] = (
    ("crisis", "overdose_or_injury_now", _compiled(
        rf"\b(?:took|taken|swallow(?:ed)?|downed|ate|had) {UP_TO_5}(?:too many|too much|all|whole|entire|bottles?|handful|packets?|packs?|box|strips?|bunch|lots?|loads|\d\d+|thirty|twenty|fifty|more than|dozens?) {UP_TO_5}{PILLS}",
        r"\bswallowed (?:the|a|an) (?:whole|entire|full) (?:packet|pack|bottle|box|strip|bag)",
        rf"\btook {UP_TO_3}{PILLS} (?:and|an hour|hours|just|because|to|so|tonight|alone)\b",
        rf"\btook some {PILLS}$",
        r"\boverdos(?:e|ed|es|ing)\b", r"\b(?:drank|swallowed|drinking|drink) (?:bleach|poison|antifreeze|weed ?killer|cleaning \w+)",
        r"\bbleeding a lot|\b(?:not|will not|does not|can not) stop (?:the )?bleeding|\bcut (?:too|so) deep",
    )),
    ("crisis", "method", _compiled(
        r"\b(?:least painful|painless|quick(?:est)?|eas(?:y|iest)|fast(?:est)?|peaceful(?:ly)?|best|surest|certain|good|clean(?:est)?|comfortable|nice(?:st)?|gentle(?:st)?|effective) (?:\w+ ){0,3}(?:way|method|place|time|spot|day)s? (?:\w+ ){0,3}(?:die|go|kill|end (?:it|my|your|one|their|a|his|her|things)|commit suicide|suicide|not wake|jump|do it)",
        r"\bways? to (?:die|kill (?:my|your|one)self|end (?:my|your) life)",
        rf"\bhow (?:many|much|high|tall|far|deep|long) (?:\w+ ){{0,12}}(?:die|kill (?:you|me|my|your|some|a)|lethal|fatal|deadly|overdose|not wake up|never wake up|end it|bleed out|bleed to death|drown)\b",
        r"\b(?:lethal|fatal|deadly|toxic) (?:\w+ ){0,2}(?:dose|amount|quantity|combination|mix)|\b(?:dose|amount|quantity) (?:\w+ ){0,8}(?:lethal|fatal|deadly|kill)",
        r"\b(?:enough|too many|many) to (?:die|kill (?:me|myself|you|a person|someone)|not wake up|never wake up)",
        rf"\bhow (?:do|can|could|would|should|to) (?:\w+ ){{0,3}}(?:kill (?:{SELF}|themselves)|hang (?:{SELF})|commit suicide|overdose|die|end (?:my|your|their|one's|his|her) (?:own )?li[fv]e?s?)\b",
        r"\bnoose\b|\bknot (?:\w+ ){0,5}(?:hold|my weight|neck)|\bbleed(?:ing)? (?:out|to death)\b|\bsuicide (?:methods?|pod|kit|bag)",
        r"\b(?:drowning|hanging|jumping|bleeding out|freezing|suffocating) (?:\w+ ){0,3}(?:peaceful|painful|painless|quick|hurt|way to go)|\b(?:is|does|would|will) (?:drowning|hanging|dying) (?:\w+ ){0,2}(?:hurt|peaceful|painful|quick)",
        r"\b(?:fall|falls|go|put|goes) (?:a?sleep|to sleep) (?:for good|forever|permanently)\b",
        r"\bway to go (?:\w+ ){0,3}(?:not|without|does not|nobody)\b",
    )),
    ("crisis", "suicide_note_or_goodbye", _compiled(
        r"\b(?:suicide|goodbye|farewell) (?:note|letter|letters|notes|message|messages|video|text)\b|\b(?:my|her|his) (?:very )?(?:last|final) (?:note|letter|message|words|goodbye|will)\b|\bnote should say\b",
        r"\b(?:wrote|written|write|writing|left|leave|leaving|wrote out|finished) (?:\w+ ){0,4}(?:letters?|notes?|cards?) (?:\w+ ){0,8}(?:when i am gone|will not be|after i am|find me|for when|be there|find (?:it|them)|birthdays?|eighteen|goodbye|blame|wake up)",
        r"\b(?:this is|these are|it is|so this is|guess this is) (?:\w+ ){0,2}(?:goodbye|farewell|my last|the end for me|my end)\b",
        r"\bgoodbye (?:everyone|everybody|world|cruel world|all|forever|my friends)\b|^farewell\b",
        r"\b(?:will not|not going to|never) (?:\w+ ){0,3}(?:hear|see|write|be hearing|be writing|writing) (?:\w+ ){0,3}(?:from me|me|again)(?: \w+)? (?:again|anymore|ever|after)\b|\b(?:hear|see) (?:from )?me again after\b",
        r"\b(?:said|saying|say) (?:all )?my (?:final )?goodbyes\b",
        r"\b(?:by the time|when) (?:you|anyone|they|someone|he|she) (?:\w+ ){0,2}(?:reads?|sees?|finds?|gets?|checks?) (?:\w+ ){0,4}(?:gone|dead|too late|over|not be (?:here|alive)|will not matter)",
    )),
    ("crisis", "self_harm", _compiled(
        rf"\b(?:cut|cuts|cutting|hurt|hurts|hurting|harm|harms|harming|harmed|burn|burns|burning|burned|burnt|scratch|scratching|scratched|punish|punishing|injure|injuring|stab|stabbing|bruise|bruising|starv(?:e|ing)|hit|hitting|punch|punching|carve|carving|slash|slashing|bite|biting|mutilat\w+|slit|slitting) (?:\w+ )?{SELF}",
        r"\b(?:cut|cuts|cutting|slit|slitting|burn|burning|burned|scratch|scratching|scratched|carve|carving|slash|slashing|slice|slicing) (?:\w+ ){0,2}(?:my|his|her|their) (?:\w+ )?(?:arms?|wrists?|skin|thighs?|legs?|veins?|throat|body|stomach)\b",
        r"\bself harm(?! (?:prevention|awareness|training|essay))", r"\b(?:fresh|new|made|bloody) (?:\w+ ){0,2}cuts\b|\bcuts (?:all )?(?:over|on) (?:my|his|her|their)",
        r"\b(?:razor|razors|blade|blades) (?:\w+ ){0,6}(?:hand|skin|arm|wrist|drawer|promised|want)|\bholding (?:the|a) (?:blade|razor|knife)",
        r"\b(?:urge|urges|want|wants|need|needs|started|relapsed|craving) (?:\w+ ){0,2}(?:to|and|with|on|by) cut(?:ting)?(?: (?:again|so|deep\w*|tonight|last night|is|are|right now|because|but))",
        r"\b(?:started|been|keep|keeps|is|am) cutting(?: again| every| at night| to cope| to feel| because i|$)|\bcut again\b",
        r"\b(?:bang|banging|hit|hitting|smash|smashing) (?:my|his|her) head (?:against|on|into|until|repeatedly)",
        r"\b(?:punch|hit) (?:the )?walls? until (?:my|i)\b",
    )),
    ("crisis", "suicide", _compiled(
        rf"\b(?:kill(?:s|ed|ing)?|hang(?:s|ed|ing)?|drown(?:s|ed|ing)?|shoot(?:s|ing)?|shot|poison(?:s|ed|ing)?|electrocute|suffocate|smother|end|ending|remove|delete|off|offing|erase|destroy|finish) {SELF}\b",
        r"\bsuicid(?:e|al|es|ally)\b", r"\bhang (?:myself|himself|herself)\b",
        rf"\bend(?:s|ed|ing)? (?:it all|{MY} (?:\w+ )?(?:life|lives|existence|suffering|misery)|life|everything)\b(?! (?:at|with) (?:work|the gym))",
        r"\bend(?:ing)? it\b(?! (?:with|on|early|by|at|there|here|when|off|between|amicably|over|up|because|after))", r"\bend(?:ing)? things\b(?! (?:with|on|between|amicably|over|there))",
        r"\btak(?:e|es|ing|en) (?:my|his|her|their|your) (?:own )?li(?:fe|ves)\b|\btook (?:my|his|her|their) own life\b|\btak(?:e|ing) (?:myself|himself|herself) out\b",
        r"\bdo away with (?:myself|himself|herself)\b|\bput an end to (?:my|his|her|it all|everything|myself|this life)",
        rf"\b(?:i|he|she|they|we|who|me|you) (?:\w+ ){{0,4}}{WANT} (?:\w+ ){{0,4}}{NO_LIFE}\b", rf"^(?:\w+ )?{WANT} (?:to )?(?:just )?{NO_LIFE}\b",
        rf"\b(?:{WANT}|scared|afraid|close) (?:\w+ ){{0,3}}(?:of |about |to )?(?:dying|being dead|death|being gone for good|not being alive|not existing)\b",
        r"\b(?:not|never|no longer|nobody|hardly|barely|neither) (?:\w+ ){0,2}(?:want|wants|wanted|wanna|wish|desire|care|plan|deserve|able|going|gonna|supposed|imagine|intend|see|meant|think|worth|like|picture) (?:\w+ ){0,6}(?:live|alive|exist|existing|living|breathing|wake up|waking up)\b(?! (?:with|in|near|there|without my|at|here|together|alone|next|early|so early|before|for (?:work|school)|up to|on time|at|tired|this early|by (?:myself|my))\b)",
        r"\b(?:not|never|no longer) (?:\w+ ){0,2}(?:want|wanna|wish|plan|deserve|going|gonna|supposed|think i (?:will|should)) (?:\w+ ){0,3}(?:be here|be around|stay here|be on this (?:earth|planet)|be in this world|be part of this world)(?: (?:anymore|any more|any longer|tomorrow|much longer|next|by|at all|for (?:much|it|long|christmas)|when|either|after)|$| \.)",
        r"\b(?:can not|could not|not|never|no) (?:\w+ ){0,2}(?:keep|go on|continue|carry on|bear|stand|do|face) (?:on )?(?:living|being alive|existing|life|to live)\b(?! (?:with|in|at|here|there))",
        r"\bcan not (?:live|exist|be alive)(?: like this| this way| anymore| any longer|$)(?! (?:at|in|with))|\bhow (?:do|can) people keep living\b",
        r"\b(?:tired|sick|exhausted|done|fed up|finished|over|through|weary|hate|hating|dread|regret|sorry) (?:of|with|to be|that i am|being|\w+ of)? ?(?:being alive|living|life|existing|existence|breathing|staying alive|be alive|still alive|waking up alive|alive)\b(?! (?:in|with|at|here|there|alone|paycheck|together|under|like (?:a|an)|on|by|near|next|room|expenses|insurance|coach|lessons|science))",
        rf"\b(?:wish|wished|wishes|wishing|glad if|want|hope|hoping) (?:\w+ ){{0,5}}(?:i|he|she|they)?(?: \w+)? ?(?:was|were|am|be|had|would|had been|could|never|never been|just)? ?(?:just |already |never |not |could |be )*(?:dead\b(?! (?:ringer|weight))|never (?:been )?born|not born|been born|not alive|not exist|stop existing|killed me|never existed|succeeded|worked and i)",
        r"\bwish (?:\w+ ){0,5}(?:had|would have|would|could have) (?:\w+ )?(?:killed me|worked|died|not been found|taken me)|\bsorry (?:that )?i (?:was found|survived|lived|woke)",
        r"\b(?:disappointed|sad|angry|upset|sorry|hate) (?:that |because |when )?(?:i|each|every)(?: \w+){0,3} (?:woke|wake) up\b",
        r"\bbetter off dead\b|\brather (?:be dead|die)\b|\bprefer (?:death|to be dead|to die)\b|\bwould be a kindness\b",
        r"\b(?:better|happier|easier|easily|fine|good|relieved|lighter|free|okay|ok|simpler|place|best|easier|nicer|calmer|peaceful|well) (?:\w+ ){0,6}(?:without (?:me|him|her)|if (?:i|he|she) (?:was|were|am|is|had|did|just)? ?(?:gone|dead|not|no longer|never|disappear\w*|died|vanish\w*)|(?:once|when) (?:i|he|she) (?:am|is) (?:gone|dead|not here|no longer)|with me gone)",
        r"\b(?:world|family|kids|children|everyone|everybody|people|they|wife|husband|parents|friends) (?:\w+ ){0,6}(?:better|happier|easier|fine|relieved|go on|move on|breathe easier) (?:\w+ ){0,3}without me\b",
        r"\b(?:no|not|any|single|without|lost|what|see|find|whats|left) (?:\w+ ){0,3}(?:reason|reasons|point|purpose|will|desire|strength|wish|use|sense|meaning|energy) (?:\w+ ){0,5}(?:to live|living|alive|in life|of life|stay alive|existing|in being here|of being here|to exist|go on living|keep living|being alive|be alive|live for|be here)\b(?! (?:in|with|at|here|there))",
        r"\bnothing (?:\w+ )?(?:to live for|left to live|worth living for|keeping me alive|keeps me alive|keeping me here|keeps me here|left for me here)\b|\bnothing left for (?:me|him|her)$",
        r"\b(?:not|no longer|never|hardly|is life|life) (?:\w+ ){0,4}worth (?:living|it to live|to live)|\bworth staying alive\b",
        rf"\b(?:jump|jumping|jumps|jumped|step|stepping|leap|throw myself|throwing myself|dive|walk|walking|driv(?:e|ing)|swerve|crash) (?:\w+ ){{0,5}}(?:off|in front of|out of|into|from|under|onto) (?:\w+ ){{0,3}}(?:bridge|roof|building|train|trains|traffic|cliff|balcony|window|tracks|bus|truck|tree|ledge|platform|tower|oncoming|ocean and|sea and|river and)",
        r"\b(?:going to|want to|about to|ready to|will|might|could just|feel like|thinking of|from) jump(?:ing)?$|\bgoing to jump\b(?! (?:in|on|for|into the (?:pool|shower|lake)))",
        r"\blet me (?:just )?(?:die|go|be dead)\b|\bplease (?:just )?kill me\b|\bsomeone (?:please )?kill me\b|\bjust kill me\b|\bwhy (?:can not|could not|did not) i (?:just )?(?:die|be dead|have died)",
        r"\b(?:not|will not|never) (?:\w+ ){0,4}(?:be alive|be here|be around|make it|live|see) (?:\w+ ){0,4}(?:tomorrow|next (?:week|month|year|birthday|winter|summer|christmas)|much longer|the morning|christmas|my birthday|by (?:sunday|monday|friday|saturday|then)|long)$",
        r"\b(?:hope|hoping|hopes|wish|wishing|wished|pray|praying|mind|care|glad|okay|ok|fine|want|imagine|waiting for) (?:\w+ ){0,8}(?:hits? me|hit by a|takes? me out|runs? me over|not wak(?:e|ing) up|never wak(?:e|ing) up|never woke up|did not wake up|do not wake up|kills? me|shoots? me|heart (?:would |will )?(?:just )?stops?|takes? me|crashes)",
        r"\b(?:do not|not) (?:care|mind|matter) (?:\w+ ){0,3}(?:if|whether) i (?:\w+ )?(?:live|die|am alive|wake up|survive)",
        r"\b(?:dead|die|died|gone) (?:by|before) (?:\w+ ){0,3}(?:sunday|monday|friday|saturday|tomorrow|then|next|birthday|christmas)\b",
        r"\b(?:danger to (?:myself|himself|herself)|not safe (?:with|from|around|by) (?:myself|himself|herself)|not (?:feel )?safe (?:alone|tonight|being alone|with myself)|not trust myself|keep myself safe|keep myself from)",
        r"\b(?:plan|planning|planned|rehears\w+|prepar\w+|arrang\w+) (?:\w+ ){0,4}(?:my|own) (?:\w+ )?(?:death|funeral|suicide|exit|end)\b",
        r"\b(?:want|wish|wants|ready|need) (?:\w+ ){0,4}(?:my|this|the|his|her) life (?:to (?:be over|end|stop)|over)\b|\bwant out of (?:this )?life\b|\bgiv(?:e|en|ing) up on (?:life|living)\b",
        r"\b(?:way out|escape|answer|option|solution|relief) (?:\w+ ){0,4}(?:is|would be|seems?) (?:\w+ ){0,2}(?:death|dying|to die)\b|\b(?:death|dying) (?:\w+ ){0,5}(?:way out|escape|answer|option|solution|relief|peaceful|comforting|restful|kindness|easier|comfort)\b",
        r"\b(?:sleep|rest) (?:\w+ ){0,3}(?:does not end|not end|never end\w*|never wake|not wake|no morning|there was no morning)\b|\bsleep and (?:not|never) (?:wake|come back)",
        r"\bdid something bad\b|\bdo something (?:stupid|permanent|drastic|to myself|i can not (?:undo|take back))",
        r"\b(?:pills|tablets|medication|rope|gun|blade|razor|bottle|noose) (?:\w+ ){0,4}(?:in front of me|next to me|beside me|in my hand|in my hands|in my lap|ready for me|on my bed|to my head|here with me)\b",
        r"\b(?:sav(?:e|ed|ing)|stockpil\w+|collect\w+|hoard\w+|stash\w*|count\w+) (?:\w+ ){0,4}(?:pills|tablets|medication|sleeping)\b(?! (?:for the|each|into|out for))",
        r"\bbought (?:a|the|some) (?:rope|gun|noose|razor blades?|blades?)\b",
        r"\b(?:lie|lay|stand|standing|sitting|walking|walk) (?:\w+ ){0,3}(?:on|onto|by|along) (?:the|a) (?:\w+ )?(?:tracks|ledge|railing|edge)\b(?! of (?:my|the) (?:seat|bed|chair))",
        r"\bwho (?:\w+ ){0,4}(?:my funeral|find my body|find me dead)\b|\bmy (?:own )?funeral\b",
        r"\b(?:be|being) (?:dead|six feet under|in (?:a|my) (?:coffin|grave))\b(?! (?:tired|serious|wrong|to me))",
        r"\b(?:friend|mate|sister|brother|mother|father|son|daughter|roommate|flatmate|girlfriend|boyfriend|husband|wife|partner|cousin|colleague|student|uncle|aunt|ex|someone) (?:\w+ ){0,3}(?:wants?|going|wishes|hopes|threatens?|plans?|might|tried|planning|ready|rather) (?:\w+ ){0,4}(?:die|be dead|end it|jump|not (?:be alive|live|exist|wake up)|disappear forever)\b",
        r"\b(?:can not|could not|not able to|unable to|will not) go on(?: anymore| any longer| like this| living| $|$)(?! (?:a|the|this|my|that|vacation|holiday|with (?:this diet|the show|the project)))",
        r"\b(?:stop|end|over|done|quiet|gone) (?:forever|for good|permanently)\b(?= *$| and| tonight| now)",
        r"\b(?:leave|leaving|left) (?:\w+ ){0,3}(?:everything|everyone|it all|this life|this world|this place|all of it|all of you) (?:\w+ )?(?:behind|forever|for good)\b",
        r"\bburden\b (?:\w+ ){0,4}(?:much longer|any longer|anymore|after tonight|soon)\b|\b(?:not be|soon|stop being|will not be) (?:\w+ ){0,4}(?:a )?burden\b",
        r"\b(?:worthless|useless|nothing matters|pathetic) (?:\w+ ){0,4}(?:a |such a )?burden (?:to|on) (?:everyone|my|them|all|everybody)",
        r"\b(?:none of (?:this|it)|nothing|it|this) (?:will|would|is going to) (?:\w+ )?(?:not )?(?:matter|be over|hurt) (?:\w+ ){0,3}(?:after tonight|by tomorrow|once i|when i am (?:gone|not here)|soon enough)",
        r"\b(?:gun|knife|it|rope) (?:\w+ ){0,6}(?:on|against|around) (?:myself|my (?:neck|head|temple))\b",
        r"\b(?:not|never) (?:to )?be alive (?:for|by|next|at)\b|\bnot (?:want to )?be alive\b|\b(?:week|day|night|month|year) alive\b",
        r"\b(?:my|the|a|his|her) last (?:winter|summer|spring|autumn|christmas|birthday|night alive|day alive|day on earth)\b(?! (?:with|in|at|before))",
        r"\b(?:world|nobody|no one|anyone|they) (?:\w+ ){0,4}(?:notice|care|hiccup|blink|miss me|cry|bother) (?:\w+ ){0,2}if i (?:\w+ ){0,3}(?:gone|dead|died|disappeared|vanished|stopped|not here|killed|never came|did not come|were not)",
        r"\bif i (?:\w+ )?(?:did not|never|do not) w(?:a|o)ke up\b|\bif i (?:was|were|am) (?:\w+ )?(?:gone|not here|no longer here|not around)\b(?! for (?:a|the|two|three))",
        r"\b(?:not|without) (?:\w+ )?(?:worth it|worth anything) (?:anymore|any more) (?:\w+ ){0,3}i want out\b|\bi want out\b(?! of (?:this|my|the) (?:job|contract|relationship|marriage|lease|group|deal|class|meeting|town))",
        r"\b(?:so )?(?:that )?i do not have to be here\b(?! (?:at|on|for|tomorrow|by))|\bi (?:do not|never|will not) (?:\w+ )?(?:exist|be here) anymore\b",
        r"\bengine running\b (?:\w+ ){0,5}(?:garage|door|shut|closed|hose)|\bgarage (?:\w+ ){0,4}(?:shut|closed|locked) (?:\w+ ){0,4}engine",
        r"\b(?:join|be with|be where|see|follow) (?:my |him|her|them)(?: ?\w+){0,3} (?:in heaven|on the other side|up there|again soon|is now|where (?:he|she|they) (?:is|are))\b(?! when i am old)",
        r"\b(?:someone|somebody|anyone|them|him|her|people|kids) (?:\w+ )?(?:go|fall asleep|die|pass) (?:\w+ )?(?:without feeling|painless\w*|peacefully|without pain)",
        r"\bpurpose (?:in|of|to) (?:waking up|wake up|being here)\b|\bwaiting for (?:the end|death|it to end|my end)\b$",
        r"\bcan not not think (?:about|of) (?:suicide|dying|killing|death)\b",
        r"\bwhen i am dead\b|\bif i (?:\w+ )?(?:died|die|was dead|were dead|am dead|killed)\b(?! (?:of (?:laughter|boredom)|in the game))",
        r"\b(?:dear|please) god (?:\w+ ){0,4}(?:take me|let me die)|\bstaying alive for\b|\bkeeping me alive\b",
    )),
)  # fmt: skip
HARM_OTHERS = _compiled(
    r"\b(?:going to|gonna|want to|will|plan to|planning to|planned how to|about to|ready to|urges? to|thoughts? of|have to|need to|decided to|might|afraid i will|scared i will|could|tells? me to|telling me to|tell me to) (?:\w+ ){0,2}(?:kill|killing|shoot|shooting|stab|stabbing|murder|murdering|strangle|strangling|attack|slaughter|choke|hurt|hurting|harm) (?:him|her|them|my (?:\w+ )?(?:wife|husband|boss|ex|father|mother|stepdad|stepfather|baby|child|children|kids|son|daughter|neighbour|neighbor|teacher|classmates|roommate|brother|sister|girlfriend|boyfriend|partner|family)|someone|somebody|people|everyone|everybody|those|the (?:kids|baby|people|man|teacher)|this child|the child)\b",
    r"\b(?:gun|knife|weapon|weapons|rifle) (?:\w+ ){0,10}(?:kill|stab|shoot|pay|die|use it on|him|them|school)\b",
    r"\bpush(?:ing)? (?:people|someone|him|her|them) (?:\w+ ){0,3}(?:tracks|traffic|train|bridge|window|roof|stairs)",
    r"\b(?:they|he|she) will (?:all )?pay\b (?:\w+ ){0,8}(?:gun|knife|weapon)",
)
ABUSE = _compiled(
    r"\b(?:husband|wife|boyfriend|girlfriend|partner|father|stepdad|stepfather|stepmother|stepmom|mother|uncle|ex|brother|parents|coach|teacher|carer|he|she|they|grandfather|man i live with|dating) (?:\w+ ){0,3}(?:hits?|beats?|punch(?:es|ed)?|slap(?:s|ped)?|kick(?:s|ed)|chok(?:es|ed)|strangled?|strangles|burn(?:s|ed)|rap(?:es|ed)|molest(?:s|ed)|assault(?:s|ed)|whips?|pushe[ds]|shove[ds]|threw|throws|forced|forces) (?:\w+ ){0,3}(?:me|us|myself|him|her|my (?:little )?(?:brother|sister|mother)|himself on me)\b(?! (?:at chess|in the game|with a pillow|playfully|to the|at (?:tennis|cards|golf|mario|fifa|poker)|up|off|a|an|in (?:the|a) race|the ball|out of bed|for the))",
    r"\btouch(?:es|ed|ing)? me (?:\w+ ){0,4}(?:night|where|down|inappropriate\w*|private|sexually|without|when i|secret)|\b(?:comes|came|coming) into my (?:room|bed)(?:room)? at night\b",
    r"\b(?:was|been|being|got|is|gets|getting|were|am) (?:\w+ ){0,2}(?:raped|sexually (?:abused|assaulted)|molested|abused|beaten|trafficked)\b|\b(?:raped|molested|sexually assaulted) (?:me|by)\b",
    r"\bforced (?:me )?(?:\w+ ){0,3}(?:sex|touch|undress|himself on me|myself)\b|\bmakes? me (?:\w+ ){0,3}(?:sexual|undress|without clothes|touch him|touch her|naked)\b|\bsexual things to me\b|\bsend (?:him|her|them|me)? ?(?:\w+ ){0,3}(?:nudes|naked|nude|without clothes)\b|\bmy nudes?\b|\bnude (?:photos|pictures|pics)\b",
    r"\b(?:scared|afraid|terrified) (?:to go home|of my (?:husband|father|boyfriend|partner|stepdad|stepfather|mother|wife|girlfriend)|(?:that )?(?:he|she) (?:will|would|is going to) (?:hit|hurt|kill|beat)|of what (?:he|she) (?:will|would|might) do)",
    r"\b(?:he|she|husband|wife|boyfriend|girlfriend|partner|ex|father) (?:\w+ ){0,4}(?:kill me|hurt me|hurt the kids) if i (?:leave|tell|go|talk)|\b(?:he|she) (?:will|would|is going to|said \w+ would|says \w+ will|threatened to|threatens to|wants to) kill me\b(?! (?:when|for|if i (?:am late|forget|break|do not))| over| laughing_out_loud)",
    r"\b(?:black eye|bruises|broken ribs?|marks on my neck|broke my arm)\b (?:\w+ ){0,8}(?:from|he|she|fell|husband|father|partner|told everyone)|\b(?:gave me|have|has) (?:a black eye|bruises (?:from|all over))",
    r"\b(?:abusive|violent) (?:\w+ )?(?:husband|wife|boyfriend|girlfriend|partner|relationship|home|father|mother|parents|marriage|ex)\b|\bdomestic (?:violence|abuse)\b",
    r"\block(?:s|ed)? me (?:in|out)\b|\bpush(?:ed|es)? me down the stairs\b|\b(?:throws?|threw|thrown) (?:\w+ )?at me\b(?! the ball)|\b(?:beats?|hits?|hit) (?:\w+ ){1,4}with a belt\b",
)  # fmt: skip
DRUG = (
    r"(?:sertraline|zoloft|prozac|fluoxetine|lexapro|escitalopram|xanax|lithium|seroquel|quetiapine|wellbutrin|bupropion|adderall|citalopram|mirtazapine|effexor|venlafaxine|lamictal|lamotrigine|abilify|valium|diazepam|propranolol|cymbalta|trazodone|ritalin|paroxetine|paxil|olanzapine|risperidone|ativan|klonopin|celexa|ssri\w*|antidepressants?|antipsychotics?|benzos?|mood stabili\w+|medications?|medicines?|prescriptions?|sleeping (?:pill|tablet)s?|melatonin|pills?|tablets?|drugs?|dose|dosage|vyvanse|concerta|gabapentin|pregabalin|hydroxyzine|buspirone|st john)"
)  # fmt: skip
MEDICAL = _compiled(
    rf"\b(?:should|can|could|may|do|is it|would it be|am i|ok to|okay to|safe to|dangerous to|bad to|how do i|how can i|how to|help me) (?:\w+ ){{0,6}}(?:stop|quit|skip|come off|get off|go off|start|double|halve|increase|lower|reduce|raise|change|mix|switch|combine|take|taking|taper|wean|drink|give|replace|swap|use|split|be on|go on|need|crush|up) (?:\w+ ){{0,6}}{DRUG}\b",
    rf"\b(?:how much|how many|what dose|what dosage|how often|which|what) (?:\w+ ){{0,3}}{DRUG} (?:\w+ ){{0,8}}(?:take|safe|need|best|good|works?|should|okay|ok|recommend|help|prescribe|sleep)",
    rf"\b(?:mg|milligrams?) (?:\w+ ){{0,12}}(?:should|can i|enough|more|too much|go up|instead|just take)\b|\b(?:mix|drink|alcohol|wine|beer|weed) (?:\w+ ){{0,8}}{DRUG} *$",
    rf"\b(?:prescribe|recommend|suggest) me\b|\bwhat should i take\b|\bsomething (?:without a prescription|to sleep|for (?:my )?anxiety)\b|\b{DRUG} (?:\w+ ){{0,8}}(?:should i|can i|can not i|could i|do i|is it safe|is that safe|dangerous)\b",
    r"\b(?:do|does|could|might|am|is|what if|think|if) (?:\w+ ){0,5}(?:i|my \w+|he|she|this|it|that) (?:\w+ ){0,5}(?:have|has|be|got|am|a|is) (?:\w+ ){0,4}(?:bipolar|adhd|add|bpd|borderline|ocd|ptsd|autis\w+|schizophreni\w*|psychosis|psychotic|clinically depressed|depression|narcissis\w+|manic|mania|anxiety disorder|eating disorder|disorder|dissociative|dementia)\b",
    r"\b(?:is|could|would|was|does) (?:this|that|it|these) (?:\w+ ){0,4}(?:bipolar|adhd|bpd|borderline|ocd|ptsd|autism|schizophrenia|psychosis|depression|a disorder|an eating disorder|mania|clinical)\b",
    r"\bam i (?:\w+ )?(?:depressed|bipolar|autistic|schizophrenic|borderline|psychotic|manic|a narcissist|mentally ill|sick in the head)\b",
    r"\bdiagnos(?:e|is)\b (?:\w+ ){0,3}(?:me|do i|would|my)\b|\b(?:give me|need|want|what|your) (?:\w+ ){0,3}diagnosis\b|\bwould you diagnose\b|\bdiagnose (?:me|my|him|her)\b|\bwhat (?:disorder|mental illness|condition)\b|\bwhat is wrong with me medically\b",
)  # fmt: skip
ABOUT_PROGRAM = _compiled(
    r"^(?:so |wait |hey |hi |but )?(?:are you|r you|you are) (?:a |an |even |really |actually |just |the )*(?:real|human|person|robot|bot|ai|program|machine|therapist|doctor|psychologist|chatbot|computer|licensed|qualified|someone|counsellor|counselor|alive)\b",
    r"\b(?:am i|is this) (?:\w+ )?(?:talking|chatting|speaking|writing|typing) (?:to|with)\b|\bis there (?:a|any) (?:real )?(?:human|person|one) there\b|^who am i talking to\b|^(?:who|what) are you\b",
    r"\b(?:is|are|will) (?:this|our|what i|the|these|my|it) (?:\w+ ){0,4}(?:confidential|private|anonymous|recorded|saved|stored|secret|between us)\b",
    r"\b(?:will|do|can|are|would) you (?:\w+ ){0,3}(?:tell anyone|tell anybody|tell someone|keep (?:\w+ )?(?:a |this )?secret|keep this|keep it|report me|tell my|share this|save what|store|remember (?:this|me|what)|record)\b",
    r"\bpromise (?:me )?(?:\w+ ){0,4}(?:tell|secret|confidential|between us|not to tell)\b|\bjust between (?:us|you and me)\b",
)
CUES = re.compile(
    r"\b(?:die|died|dies|dying|dead|death|kill\w*|suicid\w*|funeral|coffin|grave|heaven|afterlife|alive|living|live|exist\w*|existence|"
    r"gone|disappear\w*|vanish\w*|erased?|fade|goodbyes?|farewell|burden|without me|miss me|notice|way out|last|final\w*|over|end\w*|ending|"
    r"forever|for good|peace|calm|forgive|sorry|blame|letters?|note|will|give away|giving away|gave|affairs|passwords|insurance|"
    r"pills|tablets|rope|gun|blade|razor|bridge|roof|ledge|tracks|platform|balcony|bleed\w*|blood|overdos\w*|cut\w*|hurt\w*|harm\w*|"
    r"wake|waking|woke|sleep|go on|going on|carry on|hold on|hang on|let go|letting go|give up|giving up|done|tired|anymore|any longer|"
    r"be here|around|born|air|space|way|world|life|safe|dark|thoughts|voices|urges?|jump\w*|step|edge|see again|join|be with|take care|look after|"
    r"relapsed?|scars|mistake|waste|oxygen|checking out|check out|leaving|leave|nothing left|no future|see a future|tomorrow|tonight|soon)\b"
)


def _removals() -> tuple[tuple[str, re.Pattern[str]], ...]:
    thing = r"(?:phone|laptop|computer|battery|car|tv|wifi|internet|plant|plants|game|app|printer|console|controller|engine|line|chat|server|party|conversation|signal|flashlight|mic|tablet)"
    death_verb = (
        r"(?:kill(?:ing|ed)? (?:myself|himself|herself|themselves|themself)|suicid(?:e|al)|d(?:ie|ying)|be dead|hurt(?:ing)? (?:myself|himself|herself|anyone|anybody|people|someone)|harm(?:ing)? (?:myself|himself|herself|anyone)|self harm(?:ing)?"
        r"|end(?:ing)? (?:it all|it|my life|things|his life|her life)|tak(?:e|ing) my (?:own )?life|cut(?:ting)? myself|suicidal (?:thoughts|ideation|feelings|intentions?|plans?)|attempt(?:ed|ing)? (?:suicide|it)"
        r"|do(?:ing)? anything (?:like that|to myself|stupid)|do (?:that|it) to (?:my|the|them|him|her)\b|commit(?:ting)? suicide|in (?:any )?danger|(?:a )?danger to (?:myself|anyone|others))"
    )
    filler = (
        r"(?:(?:really|actually|at all|currently|even|feeling|feel|thinking|think|thought|considering|consider|considered|contemplated|contemplating|tempted|having|have|had|going|planning|plan|planned|want|wanting|wanted|intend|intending|intended|trying|try|try to|any|in|about|of|to|by|be|been|being|like|ever|actively|saying|i|am|would|will|with|the|urge|wish|wishing|that|mean|it|is|just trying|anything about|crossed my mind|remotely) )"
    )
    return (
        ("denied", re.compile(rf"(?<!why )(?<!why do )(?<!why should )(?<!can )\b(?:i am|i was|i have|i did|i do|i will|i would|i could|i|he is|she is|he does|she does|that is|it is|he would|she would|they are|am|is|do|have|would|will|to be clear)? ?(?:not|never|no longer|neither) (?!going to lie)(?!stop)(?!yet){filler}{{0,6}}{death_verb}(?: (?:or anything|at all|anymore|any more|right now|or myself|myself|either|nor hurt myself|or hurt myself|or die|like that|to my \w+|to them))*")),
        ("denied", re.compile(rf"\b(?:no|without any|free of|zero|without) (?:\w+ )?(?:thoughts?|intentions?|plans?|desire|urges?|wish|ideation|interest|wanting|history)?(?: \w+)? ?(?:of |to |in |about )?{death_verb}")),
        ("denied", re.compile(r"\b(?:no|without|not had any|not have any|never had|not having) (?:suicidal|such|those|any) (?:thoughts?|ideation|feelings?|plans?|urges?)\b")),
        ("denied", re.compile(r"\b(?:suicide|killing myself|ending my life|dying) (?:has|had|is|was) (?:never|not) (?:\w+ ){0,3}(?:crossed my mind|an option|on my mind|something i|my thing|in my head|the answer)")),
        ("denied", re.compile(r"\b(?:glad|happy|grateful|thankful|lucky|blessed|relieved|love|loving|enjoy) (?:that )?(?:i am|to be|i did not|being|i|to still be) (?:still )?(?:alive|here|alive and well|die|stayed|survived)\b")),
        ("denied", re.compile(r"(?<!not )(?<!never )(?<!longer )(?<!why )\b(?:want|wants|choose|chose|decided|determined|love|like|trying) to (?:live|stay alive|keep living|be alive|survive|go on living)\b(?! (?:anymore|any longer|without|forever)| (?:but|though|if only)| like this)")),
        ("denied", re.compile(r"\b(?:doctor|nurse|therapist|she|he|they|form|gp|psychiatrist|counsellor) (?:\w+ )?(?:asked|asks|wanted to know|always asks|worried) (?:\w+ ){0,3}(?:if|whether|about) (?:\w+ ){0,4}(?:suicid\w+|harm(?:ing)? myself|hurt(?:ing)? myself|kill(?:ing)? myself|die)(?: thoughts)?")),
        ("idiom", re.compile(r"\b(?:die|died|dying|dead|dies) (?:\w+ ){0,2}(?:of|from|with|at|over) (?:\w+ ){0,2}(?:laughter|laughing|boredom|embarrassment|embarrassed|curiosity|thirst|hunger|cringe|shame|cold|heat|cuteness|excitement|anticipation|jealousy|suspense|awkwardness|second hand|happiness|joy|this meme|that video|your|his jokes?|the heat)\b")),
        ("illness", re.compile(r"\b(?:is |was |are |were )?(?:dying|died|passed away|dead|die) (?:\w+ )?(?:of|from|with|in|after|when|last|this|because of|due to) (?:\w+ )?(?:cancer|old age|alzheimer\w*|dementia|covid|a stroke|stroke|heart|illness|disease|pneumonia|complications|sleep|accident|crash|hospital|hospice|childbirth|war|fire|leukemia|aids|surgery|week|month|year|morning|night|summer|winter|spring|may|march|april|june|july|he was|she was|i was)\b")),
        ("idiom", re.compile(r"\b(?:almost|nearly|practically|literally|just|could have|would have|thought i would|about) (?:\w+ )?(?:died|die|dead)\b(?= (?:laughing|when|of|from|at|on the spot|right there|inside when|because (?:he|she|it|they)|with)|$| \.)")),
        ("idiom", re.compile(r"\b(?:to die for|drop[- ]dead|dead (?:tired|serious|end|ends|line|lift|lifts|weight|pan|wrong|right|on my feet|on time|ahead|quiet|silent|easy|last|leg|legs|simple|set|zone|sea|battery|phone)|over my dead body|do or die|die ?hard|dying breed|dying art|old habits die hard|never say die|(?:left|leave) for dead|brain ?dead|dead (?:poets|pool|cells|space|island|rising)|walking dead|dead inside|deadline|as dead as|played dead|dead set)\b")),
        ("idiom", re.compile(r"\b(?:bored|scared|worried|frightened|tickled|sick|starv(?:e|ed|ing)|freez(?:e|ing)|froze|frozen|work(?:ed|ing)?|laugh(?:ed|ing)?|love|loved|embarrassed|stressed|talked|talk|thrilled|done) (?:\w+ )?(?:myself |you |him |her |it |me |half |us )?to death\b")),
        ("idiom", re.compile(r"\b(?:dying|dies?) (?:to (?:see|meet|know|try|hear|go|tell|get|visit|read|watch|eat|find|play|show|ask|be invited|have|travel|learn|meet|taste|wear|hear)|for (?:a|an|some|the|my|this)|without (?:her|his|my|their) (?:coffee|phone|crossword|tea))")),
        ("idiom", re.compile(r"\b(?:is|are|was|were|been|be|gonna|going to|will|could|literally|honestly|absolutely|slowly|keeps?|keep|its|'s|so|joke|video|it) ?(?:\w+ )?(?:kill(?:ing|ed|s)?|murder(?:ing|ed)?) me\b(?= (?:laughing|today|lately|this|right|after|again|with|from|only|and i (?:need|can not wait|have)|lol|$|\.)|$| \.| laughing_out_loud| only)")),
        ("idiom", re.compile(r"\b(?:my|the|this|that|these|those|his|her|our|your) (?:\w+ ){1,3}(?:is|are|was|were|has been|have been|been|will be|gonna be|going to be|is going to be) (?:\w+ ){0,2}(?:killing me|murdering me|the death of (?:me|us)|killing us|murder)(?! myself)")),
        ("idiom", re.compile(r"\b(?:heat|job|commute|boss|class|thesis|exam|week|traffic|meeting|weather|homework|diet|suspense|waiting|project|it) (?:\w+ ){0,3}(?:the death of (?:me|us))")),
        ("idiom", re.compile(r"\b(?:kill(?:s|ed|ing)?|slay(?:ed|s|ing)?|crush(?:ed|ing)?|murder(?:ed)?) (?:it|that (?:song|solo|presentation|exam|interview|performance|audition|look|outfit)|the (?:vibe|mood|game|time|boss|engine|lights|process|audition|interview|exam|presentation|weeds|wither|dragon|mood|music|buzz|test|solo|crowd)|time|two birds|an hour|some time|a few hours)\b(?! all)")),
        ("idiom", re.compile(r"\b(?:would|could|i will|'d) (?:kill|murder) (?:for )?(?:a|an|some|the) \w+|\b(?:kill|killed|killing|murder) (?:a |the |this |that )?(?:process|task|job|script|tab|zombie|server|spider|mosquito|fly|ants?|flies|weeds|bug|boss|monster|dragon|enemy|enemies)\b")),
        ("idiom", re.compile(r"\bsuicide (?:squad|mission|missions|sprints?|drills?|prevention|awareness|hotline|hotlines|helpline|lifeline|line|watch party|bomb\w*|door|doors|rates?|statistics|silence|girls?|survivors?|loss|bereavement|training|research|risk factors|burnout)\b|\b(?:career|social|financial|political|professional|economic|reputational|business|commercial|culinary|fashion) suicide\b|\b(?:run|ran|running|did|do|doing) suicides\b|\bvirgin suicides\b")),
        ("idiom", re.compile(r"\b(?:mother|father|mum|mom|dad|boss|wife|husband|teacher|parents|sister|brother|coach|professor|landlord|she|he|they|roommate|girlfriend|boyfriend|editor|manager|doctor|dentist|trainer) (?:is |are |was |will |would |'s |'d )?(?:\w+ )?(?:going to |gonna |literally |totally |absolutely |probably |so )*(?:kill|murder) me\b(?= (?:when|for|if|over|once|because|after|about|laughing)|$| \.| laughing_out_loud)(?! if i (?:leave|tell|go|report|talk))")),
        ("idiom", re.compile(r"\b(?:could|going to|will|want to|swear i will|would|gonna|might) (?:\w+ )?(?:kill|murder|strangle|throttle) (?:my |the |him |her |that )?(?:brother|sister|cat|dog|roommate|flatmate|neighbour|husband|wife|kids?|him|her|them|whoever)? ?(?:for|because (?:he|she|they) (?:ate|took|finished|spoiled|stole|used|woke|forgot|left)|(?:he|she|they) (?:ate|took|finished|spoiled|stole|used|woke|forgot|left)|who (?:ate|took|spoiled|invented)) ")),
        ("idiom", re.compile(rf"\b{thing} (?:just |has |is |was |are |'s |about to |almost |nearly |completely |suddenly )*(?:about to )?(?:die|died|dying|dead|killed itself)\b")),
        ("idiom", re.compile(r"\b(?:cut|cutting|cuts|burned|burnt|burn|hurt|scratched|stabbed|hit|bruised|pricked|nicked|injured) (?:myself |my (?:finger|hand|thumb|knee|toe|tongue|leg|arm|chin) )?(?:while |when (?:i was )?|by |on |at |in |with )?(?:\w+ )?(?:shaving|cooking|accident\w*|gardening|chopping|slicing|paper|a piece of paper|oven|stove|football|soccer|gym|playing|door|doorframe|bread knife|onions|kitchen|skiing|training|practice|basketball|falling|iron|pan|hot)\b")),
        ("idiom", re.compile(r"\bcut(?:ting)? (?:back|down|out|off|class|carbs|sugar|costs|corners|ties|grass|hair|my hair|the grass|onions|expenses|my nails|it short|the cake|in line|the call|the cord)\b")),
        ("idiom", re.compile(r"\boverdos(?:e|ed|ing) on (?:chocolate|coffee|caffeine|netflix|cake|sunshine|sugar|cute|christmas|pizza|tv|tiktok|candy|cookies|vitamin|memes|carbs|ice cream|nostalgia)\w*")),
        ("idiom", re.compile(r"\bkilling time\b|\bkiller (?:\w+)\b|\bserial killers?\b|\bkill bill\b|\blady ?killer\b|\bpainkiller\b|\bkill switch\b|\bkill joy\b|\bkilljoy\b")),
        ("idiom", re.compile(r"\b(?:want to |wanted to |wish i could |could |going to )?(?:die|disappear|vanish|sink into the (?:floor|ground)|crawl into a hole)\b(?:,| and| because| when| after|) ?(?:\w+ ){0,2}(?:of embarrassment|so embarrass\w+|it was so (?:awkward|embarrassing)|so awkward|when my voice|from cringe|when i (?:called|tripped|waved|sent|fell|farted|dropped|realised|realized|saw)|i (?:just )?(?:waved|tripped|sent|called|farted|fell))")),
        ("idiom", re.compile(r"\b(?:kill me|kill myself|kill me now|shoot me|going to die|will die|i will die|might die|scream)\b(?= (?:\w+ ){0,12}(?:laughing_out_loud|meeting|homework|spreadsheet|monday|mondays|wifi|printer|queue|zoom|traffic|chemistry|maths?|level)\b)(?!.*\b(?:really|serious|mean it|for real|not joking|not kidding|everything|life)\b)")),
        ("idiom", re.compile(r"\b(?:laughing|laughed|lol|laughing_out_loud) (?:\w+ ){0,5}(?:die|died|dead|dying|deceased)\b|\b(?:i am|we are|i was|he is|she is)? ?(?:literally |so |actually |fully )?(?:dead|dying|deceased|died)\b(?= (?:\w+ ){0,6}(?:laughing_out_loud|did (?:he|she)|that is (?:hilarious|so funny)|omg))")),
        ("idiom", re.compile(r"\b(?:scared|afraid|terrified|fear|frightened|worried|nervous|phobia) (?:of|about|that i (?:am|will)|i (?:am going to|will|might)) (?:\w+ )?(?:dying|death|die|dying alone|getting old and dying)\b(?! (?:tonight|by my own))")),
        ("idiom", re.compile(r"\b(?:thought|felt|feel|feels|feeling|convinced|sure|like) (?:like )?(?:that )?i (?:was|am|were|might be|would|was going to|am going to) (?:dying|die|going to die|having a heart attack)\b|\bfel?t like dying (?:during|with|from|after|in)\b|\bfeel like (?:i am )?dying (?:during|with|from|after|in|every time i (?:run|get)|when i get)\b")),
        ("game", re.compile(r"\b(?:died|dying|die|dies|killed (?:himself|herself|itself|themselves|myself)|kill(?:ing)? myself|killed by|jump(?:ed)? off|drown(?:ed)?) (?:\w+ ){0,6}(?:boss|level|game|minecraft|elden ring|dark souls|fortnite|valorant|raid|ranked|sims|respawn|gta|lava|grenade|creeper|dungeon|d and d|dnd|character|server|match|zelda|mario|roblox)\b")),
        ("game", re.compile(r"\b(?:in|playing|on) (?:\w+ )?(?:the game|minecraft|elden ring|dark souls|fortnite|valorant|the sims|gta|roblox|dnd|mario|zelda|the raid|league|overwatch|this level|level \w+|ranked)\b.*|\b(?:my|our|his|her|the) (?:character|healer|tank|sim|sims|avatar|npc|team ?mate|squad|pokemon|villager|boss) (?:\w+ ){0,4}(?:died|dying|dies|killed|dead|drown\w*|jump\w*)(?: \w+)*")),
    )  # fmt: skip


REMOVALS = _removals()
STORY = re.compile(
    r"\b(?:movie|film|book|novel|song|lyrics?|chorus|track|poem|episode|show|series|character|scene|anime|manga|documentary|podcast|"
    r"screenplay|musical|opera|album|singer|actor|actress|detective|plot|fiction|book club|netflix|"
    r"hamlet|romeo|juliet|ophelia|sylvia plath|virginia woolf|kurt cobain|ove|13 reasons why|bell jar)\b"
)
TOPIC = re.compile(
    r"\b(?:article|news|essay|thesis|paper|lecture|class|course|training|trained|report|hotline|helpline|lifeline|crisis line|statistics|rates|prevention|awareness|"
    r"psychology|philosophy|history|talk on|talk about|talked about|stigma|research|volunteer|psych ward|paramedic|nurse)\b"
)
STORY_IS_MINE = re.compile(
    r"\b(?:that is (?:me|exactly|how|what)|how i feel|i feel (?:the same|like (?:that|him|her)|it)|i relate|relate to|i want (?:that|the same|it|to)|i have decided|"
    r"i decided|do (?:the same|what it says|it too|that too|it)|me too|same as me|going to do|i am going to|i wish (?:it|that) (?:was|were) me|i would like to|exactly what i|describes me|"
    r"(?:like|as) (?:in|the|that|him|her) (?:\w+ ){0,6}i (?:want|wish|am going|will|should|need|could)|my (?:own )?(?:suicide|goodbye|death)|for myself|for me|i need to know)\b"
)
PAST = re.compile(
    r"\b(?:years? ago|decades? ago|months? ago|as a (?:teen|teenager|kid|child|student|young)|when i was (?:\w+ )?(?:younger|young|a|in|\d+|ill|sick|at|nine|ten|twelve|sixteen|seventeen|eighteen)|"
    r"in (?:19|20)\d\d|used to|in the past|back then|back when|long ago|once|a long time|high school|college|at \d\d|since (?:my|the) (?:attempt|last)|"
    r"years? (?:clean|free|since|later)|days? (?:clean|free)|months? (?:clean|free)|(?:clean|free) (?:from|of|for)|no longer|not .{0,30}(?:since|any ?more)|went away|are gone|stopped|behind me|over it|survived|attempted)\b"
)
RECOVERED = re.compile(
    r"\b(?:better(?! off)|happy|glad|grateful|thankful|well|recover\w*|proud|clean|free|stable|good|great|fine|love my|love life|beautiful|behind me|saved me|helped|relief|relieved|healed|"
    r"thriv\w+|volunteer|therapy (?:turned|saved|helped)|turned (?:that|it|things) around|long over|not anymore|no longer|sober|strong|hope|got help|talk at|share my|today i|these days|now i (?:am|have|teach|work|love|feel|live))\b"
)
RELAPSE = re.compile(
    r"\b(?:again|came back|come back|coming back|is back|are back|back there|returned|returning|regret (?:surviving|that)|wish (?:it|i) (?:had )?(?:worked|died|succeeded)|still (?:want|wish|think|feel)|"
    r"last (?:night|week)|yesterday|today i (?:cut|tried|want)|right now|tonight|worse|next time|sorry i (?:was|am)|was found|feel the same|happening again|but (?:now|last|today|tonight)|thought i had|except)\b"
)
THIRD_PERSON = re.compile(
    r"\b(?:my (?:\w+ ){0,2}(?:friend|friends|mate|sister|brother|mother|father|son|daughter|roommate|flatmate|girlfriend|boyfriend|husband|wife|partner|cousin|coworker|colleague|classmate|student|"
    r"neighbou?r|uncle|aunt|ex|niece|nephew|grand\w+|kid|child|patient|teacher|boss|fiance\w*|stepson|stepdaughter)|someone (?:i|in|on|online|at|from|is|told|said|who)|a (?:friend|girl|guy|boy|kid|man|woman|mate|classmate|colleague|student|person)|this (?:girl|guy|boy)|the (?:girl|boy|guy))\b"
)
DIED_ALREADY = re.compile(
    r"\b(?:died by suicide|(?:killed|hanged|shot|drowned) (?:himself|herself|themself|themselves)|took (?:his|her|their) own li(?:fe|ves)|committed suicide|overdosed and died|died of an overdose|lost (?:\w+ ){0,4}to suicide|suicide of my|ended (?:his|her|their) life|his suicide|her suicide|jumped (?:off|from) \w+ \w+ and died)\b"
)
STILL_AT_RISK = re.compile(r"\b(?:wants?|going to|tried|is|might|may|will|threat\w+|tonight|now|i want|join (?:him|her)|be with|follow|me too|i should|i am next|my turn)\b")
WANTS = re.compile(
    rf"\b(?:i|he|she|they) (?:\w+ ){{0,2}}(?:want|wish|am going|is going|feel|am|keep|tried|took|can not|do not|did not|hope|have been|will|cut|hurt)\b.{{0,40}}(?:die|dead|live|alive|exist|kill|suicid|end|hurt|harm|cut|overdos)"
)


def strip_harmless(sentence: str) -> tuple[str, list[str]]:
    """Return the sentence without denials, idioms and game talk, and the names of what was taken out."""
    removed: list[str] = []
    for name, pattern in REMOVALS:
        sentence, count = pattern.subn(" ", sentence)
        if count:
            removed.append(name)
    return " ".join(sentence.split()), removed


def explained_by_context(message: str) -> str:
    """Return `story`, `recovered` or `bereaved` if the whole message explains grave words away, else nothing."""
    if STORY.search(message) and not STORY_IS_MINE.search(message):
        return "story"
    if TOPIC.search(message) and not THIRD_PERSON.search(message) and not WANTS.search(message):
        return "topic"
    if PAST.search(message) and RECOVERED.search(message) and not RELAPSE.search(message):
        return "recovered"
    if DIED_ALREADY.search(message):
        rest = DIED_ALREADY.sub(" ", message)
        if not explicit_signals(rest):
            return "bereaved"
    return ""


def explicit_signals(sentence: str) -> list[Signal]:
    """Return what the sentence says in so many words; of each label the first reason only."""
    found = []
    for label, name, patterns in EXPLICIT:
        if any(pattern.search(sentence) for pattern in patterns):
            found.append(Signal(label, name))
            break
    tables = (("harm_others", HARM_OTHERS), ("abuse", ABUSE), ("medical_advice", MEDICAL), ("about_program", ABOUT_PROGRAM))
    for label, patterns in tables:
        if any(pattern.search(sentence) for pattern in patterns):
            found.append(Signal(label, label))
    return found


def has_cue(sentence: str) -> bool:
    """Return whether the sentence touches death, harm, leaving or ending at all."""
    return CUES.search(sentence) is not None


def is_about_another(sentence: str) -> bool:
    """Return whether the one at risk is somebody else than the writer."""
    return THIRD_PERSON.search(sentence) is not None
