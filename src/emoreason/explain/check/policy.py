"""Recognises questions that a face reader must not answer, whatever the face shows.

Only clear cases: the language model has learned to decline such questions in any wording, and its answer is checked as
well. Questions that only sound alike must pass: acting tips, a rating of the smile, alt text, glasses.
"""

import re

_HE = r"(?:he|she|they|it|the (?:\w+ )?(?:man|woman|person|guy|girl|boy|lady|kid|one|face|witness|individual|subject)|this (?:\w+ )?(?:man|woman|person|guy|girl|boy|lady|one|individual)|somebody|someone|the (?:left|right|middle) (?:one|face|person))"
_PATTERNS = {
    "policy_work_school": (
        r"\b(?:hir(?:e|ing) (?:him|her|them|this|that|the)|job (?:interview|candidate|applicant)|applicants?|good (?:employee|hire|candidate|worker|manager|leader)"
        r"|fit for (?:the|a) job|promot(?:e|ion)|fire (?:him|her|them)|(?:employee|worker|staff|student|pupil|colleague)s?\b.*\b(?:motivated|attention|attentive|listening|engaged|bored|productive|loyal)"
        r"|(?:motivated|attention|attentive|paying attention|listening|productive)\b.*\b(?:work|class|lesson|school|job|employee|student|pupil|meeting)|pass (?:the|an|this) (?:interview|exam))"
    ),
    "policy_diagnosis": (
        r"\b(?:(?:is|are|looks?|seems?|be|suffer\w*|have|has|got)\b.*\b(?:depress(?:ed|ion)|deppress\w*|deprres\w*|autis\w+|adhd|ptsd|bipolar|schizo\w+|psychopath\w*|suicid\w+|dementia|parkinson\w*|a stroke"
        r"|mental(?:ly)? (?:ill|disorder)|anorex\w+|drunk|stoned|high on|on drugs|ill\b|sick\b|burn-?out|traumati[sz]ed|disorder|disease|migraine|in pain|healthy)"
        r"|diagnos\w+|symptoms?)"
    ),
    "policy_deception": (
        rf"\b(?:(?:is|was|are|were|could|might|would)(?:n't)? {_HE} (?:be )?(?:\w+ )?(?:l[yi]+e?ing|faking|fakign|pretending|pretneding|bluffing|acting it|putting it on|honest|truthful|sincere|guilty|innocent|hiding something|concealing)"
        r"|l(?:ying|ieing|ies) (?:to|about)|telling (?:me )?(?:the|teh) truth|(?:a|the|any) lie\b|liar|(?:fake|faked|genuine|crocodile) (?:or|tears|it)|can i (?:trust|believe) (?:him|her|them)"
        r"|untruthful|deceiv\w+|put(?:ting)? (?:it )?on for (?:the|teh))"
    ),
    "policy_identity": (
        r"\b(?:who(?:'s| is| are|se)?\s+(?:this|that|he|she|they|these|those|it|teh|the (?:man|woman|person|guy|girl|boy|lady|celebrity|actor))\b(?! (?:most|more|less|one|least|angr|happ|sad|look))"
        r"|(?:his|her|their|person's|lady's|guy's|man's|woman's) (?:full |last |first |real )?name\b|name of (?:this|the|that)|what(?:'s| is) (?:he|she) called|recogni[sz]e (?:him|her|them|this (?:man|woman|person|guy|face))"
        r"|a celebrity|somebody famous|someone famous|is (?:he|she|this|that) (?:famous|a famous)|identify (?:him|her|them|this (?:man|woman|person|guy)|the person))"
    ),
    "policy_attributes": (
        r"\b(?:h[ow]+ (?:old|odl)|what age|(?:his|her|their|the|guess|estimate the) age\b|age (?:bracket|group|range)|how many years|teenager|attractive|beautiful|prett(?:y|ier|iest)\b(?! (?:sure|certain|clear|good|much|strong|low|high|please|weak|confident|big|close))"
        r"|handsome|ugl(?:y|iest|ier)|gorgeous|good[- ]looking|what (?:race|ethnicity|nationality|religion|gender|sex)|(?:his|her|their) (?:race|ethnicity|nationality|religion|gender|sex|origin|background|natinality)"
        r"|ethnic\w*|nationalit\w+|religio\w+|muslim|jewish|christian|which country|what country|where (?:is|are|does) (?:he|she|they) (?:originally )?(?:come )?from"
        r"|(?:male|man|guy|boy) or (?:a )?(?:female|woman|girl|lady|gal)|(?:woman|girl|female|gril) or (?:a )?(?:man|boy|male|guy)|is (?:it|this|that|he|she|the person) (?:a )?(?:man|woman|boy|girl|male|female)\b|gay\b|lesbian|intelligent|is (?:he|she) (?:smart|stupid|rich|poor|kind|nice|trustworthy|evil)"
        r"|personality|criminal|dangerous|dangeruos|a threat|violent|attack (?:me|somebody|someone|him|her)|hurt (?:me|somebody|someone|anybody)|lash out)\b"
    ),
    "feeling_inside": (
        rf"\b(?:what (?:is|are|does|do|'s|was) {_HE} (?:really |actually )?(?:think\w*|feel\w*|want\w*)|what's (?:he|she) (?:really |actually )?(?:think\w*|feel\w*)"
        rf"|how (?:does|do|is|are) {_HE} (?:really |actually |truly )?feel\w*|deep down|deep inside|(?:really|truly|actually) (?:feels?|feeling|felt)|on (?:his|her|their) mind|(?:his|her|their) (?:thoughts|heart|soul|mind)\b"
        r"|going through (?:his|her|their|the)|does (?:he|she) (?:love|like|hate) (?:me|him|her)|in love with)\b"
    ),
}  # fmt: skip
_COMPILED = {kind: re.compile(pattern, re.I) for kind, pattern in _PATTERNS.items()}
POLICY_KINDS = tuple(_PATTERNS)


def policy_kind(question: str) -> str | None:
    """The policy kind of a question; None if policy allows an answer."""
    straight = question.replace("’", "'")
    return next((kind for kind, pattern in _COMPILED.items() if pattern.search(straight)), None)
