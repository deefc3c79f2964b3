"""Recognises questions that a face reader must not answer. This check comes before all others."""

import re

# The order matters: questions about work come before questions about the person.
_PATTERNS = {
    "policy_work_school": (
        r"\b(hir(e|ing)|employ(ee|ees|er|ment)|applicants?|candidates? (for|of) (the|a) job|job|interview(s|ed|ee)?|staff"
        r"|workers?|work ?place|at work|colleagues?|co-?workers?|promotion|promote|sack|fire (him|her|them)|manager|boss"
        r"|team ?(member|mate)s?|recruit\w*|workforce|salary|productiv\w+|call cent(er|re)"
        r"|students?|pupils?|class(room)?|school|lessons?|teachers?|exams?|university|lectures?|homework|e-?learning)\b"
    ),
    "policy_diagnosis": (
        r"\b(depress(ed|ion|ive)|diagnos\w+|autis\w+|adhd|ptsd|bipolar|schizo\w+|psych(osis|otic|iatr\w+|opath\w*)|mental(ly)?"
        r"|disorders?|disease|ill(ness)?|sick|suicid\w+|therap\w+|stroke|parkinson\w*|dementia|alzheimer\w*|palsy|symptoms?"
        r"|neuro\w+|medical(ly)?|medication|drugs?|drunk|stoned|intoxicated|doctor|patients?|burn-?out|traumati[sz]ed|trauma"
        r"|panic attack|anorex\w+|healthy?|unwell|wrong with (his|her|their) (brain|head|mind)|syndrome)\b"
    ),
    "policy_deception": (
        r"\b(l(ies|ied|ying|iars?)|honest(y|ly)?|dishonest\w*|truthful\w*|tell(s|ing)? (me )?the truth|deceiv\w*|decept\w*|deceit\w*"
        r"|fak(e|es|ed|ing)|genuine(ly)?|sincere(ly)?|insincere|guilty|innocent|pretend(s|ing|ed)?(?! (that )?(the|it|this))|hid(es?|ing)|bluff\w*"
        r"|trust (him|her|them|this (man|woman|person|guy))|believe (him|her|them)|trustworthy person|cheat(s|ing|ed)?"
        r"|stole|crime|betray\w*|scam\w*|real smile|(smile|laugh|expression|emotion|grief|tears?) (is )?real|putting (on a show|it on)|acting|posed|put(ting)? on an act)\b"
    ),
    "policy_identity": (
        r"\b(who am i looking at|(?!who(['’]?s| is) the (runner|winner|second))who(['’]?s| is| are)? (this|that|the|he|she|it|they|these)( \w+)?( \w+)?( in| on|\?|$)"
        r"|who (is|are) (this|that|these|he|she|they)\b|identity|identify (him|her|this|the) ?|recogni[sz]e (him|her|them|this"
        r" (man|woman|person|guy|face|girl|boy))|(his|her|their|person['’]?s) (last |first |full )?name|name of (this|the)"
        r" (man|woman|person|guy|girl|boy)|what(['’]?s| is) (he|she) called|celebrit\w+|famous|same person|know (him|her)\b"
        r"|is (this|that|it) (?-i:[A-Z][a-z]+ [A-Z][a-z]+))"
    ),
    "policy_attributes": (
        r"\b(how old|(his|her|their|guess the|estimate the|what) age|age of|attractive\w*|beautiful|beauty|pretty(?! (sure|certain|"
        r"clear|good))|handsome|ugly|hot|sexy|good[- ]looking|race|ethnic\w*|nationality|religio\w*|muslim|jew(ish)?|christian"
        r"|asian|african|european|american|latin[oa]|white (man|woman|person)|black (man|woman|person)|gender|sex|male|female"
        r"|man or (a )?woman|boy or (a )?girl|gay|lesbian|homosexual|straight person|intelligen\w+|iq|smart|stupid|rich|poor person"
        r"|criminal|dangerous|terrorist|personality|character|political\w*|vote|where (is|does) (he|she|this person)( come)? from"
        r"|overweight|fat)\b"
    ),
    "feeling_inside": (
        r"\b((really|truly|actually|secretly|inside|deep(ly)? (down|in)|underneath)\b.*\b(feel\w*|felt|think\w*|experienc\w*|hurt\w*|mean\w*|want\w*)"
        r"|(feel\w*|felt|think\w*|thought|experienc\w*)\b.*\b(really|truly|actually|inside|deep|now|underneath|right now)"
        r"|how (does|do|is|are) (he|she|they|this (man|woman|person|guy)|the (man|woman|person)) feel\w*"
        r"|what (does|do|is|are) (he|she|they|this person|the (man|woman|person)) (feel\w*|think\w*|want\w*)"
        r"|(his|her|their|person['’]?s) (mind|head|heart|soul|life|thoughts|inner|feelings?)\b"
        r"|(does|is|did) (he|she) (love|like|hate)|in love|reason (why )?(he|she) (is|was|looks)|why (is|was|are|does|do|did|looks?) (he|she|they|this (man|woman|person|guy)"
        r"|the (man|woman|person))|what (made|makes|has made|caused|happened)( \w+)? (him|her|them|to (him|her|them|this person)))\b"
    ),
}
_COMPILED = {kind: re.compile(pattern, re.I) for kind, pattern in _PATTERNS.items()}


def policy_kind(question: str) -> str | None:
    """The policy kind of a question; None if policy allows an answer."""
    return next((kind for kind, pattern in _COMPILED.items() if pattern.search(question)), None)
