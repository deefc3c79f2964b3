"""Classifies a question by rules on its words. The first rule that matches wins, so specific ones come first."""

import re

from emoreason.knowledge.facs import ACTION_UNITS

# Two names are everyday words: "eyes closed?" asks whether they are closed, not what the unit means.
UNIT_NAMES = {unit.name: code for code, unit in ACTION_UNITS.items() if unit.name not in ("eyes closed", "lips part")}
CODE = re.compile(r"\b(?:au|a\.u\.|action units?|unit|number|facs)\s*(?:no\.?|number|code|#)?\s*-?(\d{1,2})\b")

_SO = r"^\W*(?:so |and |but |well |then |ok |now )*"
_POLAR = rf"{_SO}(?:is|are|do|does|did|has|have|can|could|would|was|were|might|may|isn't|aren't|doesn't|don't|wasn't|couldn't)\b"
_SECOND = (
    r"\b(?:two|both|other|second) (?:faces?|persons?|people|ones?|of them)\b|\bthey both\b|\bboth (?:of|showing)\b"
)
_RULES: tuple[tuple[str, str, str], ...] = (  # kind, needs (l label, u unit, n unit by name or code, r region), pattern
    ("other", "", r"\bcolou?rs?\b"),
    ("how_sure", "", r"^\W*(really|seriously|honestly)\W*$|\bclose call\b|\bmargin of error\b|\bstand by\b"),
    ("describe_again", "", r"\bwhat (does|do) (this|the|that|his|her) (face|expression)s? (show|look like)\b|\bdo not (get|understand) (it|that)\b"),
    ("two_readings", "", r"\bguess first\b|\bfirst guess\b"),
    ("two_readings", "", r"\b(two|both|your) (readings|verdicts|opinions)\b"),
    ("two_readings", "", r"\b(your|its|the model's) (own|independent|first) (?!label|answer)(\w+)\b|\b(by|for) (itself|yourself)\b|\bwithout the (numbers|probabilit\w+|figures)"),
    ("two_readings", "", r"\bbefore ((you|it|the model) (saw|knew|was|were)|the \w+ (were|was)|seeing|knowing)\b"),
    ("insist", "", r"\b(ignore|forget|disregard|override|bypass)\b.*\b(say|answer|label|instructions?|rules?|evidence|above|prompt)"),
    ("insist", "l", r"\b(you (must|should|have to|will|are supposed to|need to)|(please|just|now|and)) (say|answer|admit|agree|write|confirm)\b"),
    ("insist", "l", rf"{_SO}(say|admit|confirm|answer|repeat|agree|write|call it)\b|\b(new|system) (instruction|rule|prompt)|\bchange (your|the) (answer|label)"),
    ("insist", "", r"\byou('re| are| were| got it) (all |just |clearly )?(wrong|mistaken|incorrect)\b(?!\W*\?)|\bi (disagree|don't (believe|buy)|do not (believe|buy))\b"),
    ("insist", "", r"^(?!.*\?).*\b(that|this|it)('s| is) (wrong|nonsense|false|incorrect|rubbish|not true)\b"),
    ("compare", "", r"\b(left|right)\b.*\b(left|right|than)\b|\bthan the (one|other|second|man|woman|first)\b|\b(these two|two expressions)\b|\bface (1|2|one|two)\b"),
    ("compare", "", rf"\b(compare|contrast|comparison|side by side)\b|{_SECOND}"),
    ("compare", "", r"\b(faces|persons?|people|one|left|second|first)\b.*\b(differs?|differences?|different|alike|similar)\b"),
    ("compare", "", r"\b(differ|difference|different)\b.*\b(faces|persons|people|first|second|one from)\b|^\W*(which|whose|who)\b.*\b(more|less|(happi|sadd?|angri|calm|wid|low|high|strong)er)\b"),
    ("unit_meaning", "u", r"\b(mean\w*|stands? for|what (is|does|was|would)|explain|defin\w+|muscle|never heard|don't know|tell me what|translate)\b"),
    ("unit_meaning", "u", r"^\W*(au|action unit) ?\d+\W*$|=\s*\?"),
    ("unit_present", "n", rf"{_POLAR}|^\W*(so|then) .*\?|\b(true|correct|right|visible|absent|there)\W*$"),
    ("unit_meaning", "n", r""),
    ("unit_present", "u", rf"{_POLAR}|\b(true|correct|right|see|visible|find|detect)\b|n't\b|\bnot\b|^\W*(the |his |her )?\w+( \w+){1,3}\W*\?$|^\W*(so|then) .*\?"),
    ("how_likely", "l", r"\b(how (likely|probable|many|high|big)|probabilit\w+|likelihood|chances?|percent\w*|scored?|share|odds|number)\b|%|\bwhat (did|does) \w+ (get|have|score)\b"),
    ("how_likely", "l", r"\b(scale|from (0|1|zero|one) to)\b|\bwhat(?: is|'s) \w+ at\b"),
    ("is_it", "l", r"^\W*(?!(?:why|what|how|and)\b)\w+( \w+)?\W*\?$"),
    ("why_not", "l", r"^\W*(and |but )?(what|how) about \w+\W*$"),
    ("how_likely", "l", r"\bhow (much|strong)\b(?!.*\b(confiden\w+|trust|sure|believe|rely)\b)"),
    ("method", "", r"\bwhere (does|do|did) .*\b(come|numbers?|get)\b"),
    ("how_sure", "", r"\bconfidence\b|\b(chance|likely|possib\w+)\b.*\b(error|mistake\w*|wrong)\b|\bhow (sure|certain|confident|clear|safe|reliable|firm|solid|strong(ly)?)\b"),
    ("against", "", r"\b(speaks?|counts?|argu\w+|is|say|evidence|objections?|case) against\b|\b(does|do)(n't| not) (fit|match|go|suit|support)\b"),
    ("against", "", r"\b(doubt|unsure about) (\w+)\W*$|\b(opposite|other way|devil's advocate)\b|\bnot support|\bsomething (wrong|odd|off) with\b"),
    ("against", "", r"\bcons\b|\bnot (\w+ )?convincing\b|\bbelies?\b"),
    ("against", "", r"\b(contradict\w*|conflict\w*|objections?|counter\w*|inconsisten\w*|disagrees? with|reconcile|weak(ness(es)?| points?|est)?|at odds|mismatch\w*|(un|a)typical|critici\w+|challenge)\b"),
    ("insist", "l", r"\b(everyone|everybody|all of (us|them)|experts?|my \w+|people|they)\b.*\b(says?|said|thinks?|agrees?|knows?|sees?|told|see)\b"),
    ("insist", "l", r"(?<!do )\b(i|we) (also |do |still |really )?(think|believe|know|am sure|am certain|say|bet|can tell|feel|see|insist|would say)\b"),
    ("insist", "l", r"(,|;) (right|isn't it|aren't they|isn't (he|she)|correct|no|yes|don't you (think|agree))\W*$|\bdon't you (think|agree|see)\b"),
    ("insist", "l", r"^(?!.*\?\W*$)(?!\W*(why|what|which|how)\b).*\b(clearly|obviously|definitely|surely|of course|written all over|trust me|believe me)\b"),
    ("what_would_change", "", r"\b(would|must|should|could|to) (\w+ )?(\w+ )?(have to |need to )?(change|turn|tip|flip|become|different|happen|overturn)\b"),
    ("what_would_change", "", r"\b(would|must|do|does) (you|it|one|he|she|they|the face|\w+) (have to|need|want|take)\b|\bwould need\b|\botherwise\b"),
    ("what_would_change", "", r"\bmissing for\b|\bwhen would\b|\bchange your mind\b|\bbe different\b|\b(has|have|need|needs) to (be|move|change|appear|disappear)\b"),
    ("what_would_change", "l", r"\b(suppose|imagine|assume|if i wanted|so that)\b|\bhow (could|can|should|would) (it|this|the|he|she|i)\b.*\b(become|look|show|get|be|turn|move)\b"),
    ("what_would_change", "l", r"\bwhat would (make|push|turn|bring|tip)\b|\bwhich (movements?|muscles?|units?|changes?) would\b|\bif (it|this|the face|he|she) (were|was|showed)\b"),
    ("why_not", "l", r"\b(why|how come|what|for what)\b.*(\bnot\b|n't\b|\b(excluded?|reject\w*|ruled?|rules|discard\w*|dismiss\w*|instead of|rather than|over|lose|lost|less likely|keeps?|stops?|prevents?|against)\b)"),
    ("second_best", "", r"\b(second|next)[- ](best|choice|guess|label|place|option|likely)\b|runner-? ?up|\balternatives?\b|\b(what|which) (else|other)\b"),
    ("second_best", "", r"\b(another|different|other) (label|emotion|expression|reading|interpretation|choice|answer|option)s?\b|\bclose second\b|\bsomething else\b"),
    ("second_best", "l", r"\b(apart from|besides|other than|except|if not|aside from)\b|\b(closest|nearest|right|just) (to|behind|after|below)\b"),
    ("second_best", "", r"\b(came|comes|come) close\b|\bnearly won\b|\bothers (say|see|think)\b|\btop (two|2|three|3)\b"),
    ("second_best", "", r"\b(comes?|ranks?|is) (second|next|right behind|behind|after)\b|\bsecond place\b|\b(rival|contender|competitor)\b|\bother (candidates?|options?|possibilit\w+)\b"),
    ("how_sure", "", r"\bmis-?read(ing)?\b|\bare you (\w+ )?right\b|\b100 ?(%|percent)"),
    ("how_sure", "", r"\b(sure|certain(ty)?|confident|reliab\w+|rely|trust|mistaken|mistake|uncertain\w*|doubts?|guess(ing)?|be wrong|err(or)?)\b(?!.*\bsecond\b)"),
    ("label_meaning", "l", r"\b(usual(ly)?|normal(ly)?|typical(ly)?|in general|generally( speaking)?|textbook|prototyp\w*|characteri[sz]\w+|theory|look like|means?|defin\w+|recogni[sz]e|literature)\b"),
    ("two_readings", "", r"\breasoning\b.*\b(match\w*|measure\w*|values?|evidence|coincide|numbers?)\b"),
    ("two_readings", "", r"\byour reasoning\b.*\b(evidence|measure\w*)|\bdisagree(ment)? (between|with the evidence)|\bagree with the (evidence|numbers|measurements?)"),
    ("is_it", "l", rf"{_POLAR}|\bso (this|it|that) (is|would be)\b|{_SO}(he|she|it|this|that|they)( is| are| looks?|'s) [^,]*\?"),
    ("strongest", "", r"\bsticks? out\b|\b(loudest|strongest|clearest) (signal|sign)\b|\bmost of the action\b"),
    ("strongest", "", r"\b(most|strongest|main|key|top|biggest|largest|clearest|leading|single|just one|only one|first|dominant)\b.*\b(movements?|units?|muscles?|cues?|signs?|things?|features?|actions?|activity)\b"),
    ("strongest", "", r"\b(strongest|highest|(most|single) (visible|striking|noticeable|intense|pronounced|obvious|telling|prominent)|stands? out|clearest|dominat\w+|biggest|notice first)\b"),
    ("absent", "", r"\b(units?|movements?|muscles?)\b.*\b(fail|rule out|ruled out)\b"),
    ("absent", "", r"\b(not|n't|no|never|without|lack\w*|quiet|still|inactive|off|under|unused|idle|passive|zero|nothing)\b.*\b(threshold|find|found|move|moving|seen|see|here|there|detect\w*|activ\w+|face)\b"),
    ("absent", "", r"\b(units?|muscles?|movements?|parts?)\b.*\b(not|n't|lack\w*|quiet|still|inactive|off|under|unused|idle|passive|zero)\b"),
    ("absent", "", r"\b(absent|inactive|not (active|visible|seen|there|find|see|move|moving|show)|n't (there|see|find|move|moving|visible)|missing|below the|at rest|relaxed)\b"),
    ("region", "r", r"^\W*(now |and |then )?(the |his |her )?\w+\W*$"),
    ("region", "r", rf"{_SO}(what|how|describe|tell|anything|is (something|anything)|let's|zoom|look)\b|^\W*(and |what about )?(the|his|her) \w+\W*$"),
    ("method", "", r"\bhow (does|do|did|is|are|was|were) (this|it|you|the|these|a|those) ?(\w+ )?(\w+ )?(work|do|measured?|get|comput\w+|obtain\w*|detect\w*|analy[sz]ed?)\b(?!.*\bdecid)"),
    ("method", "", r"\b(deep|machine) learning\b|\bunder the hood\b|\bwhat (can|may|should) i ask\b"),
    ("method", "", r"\b(techni\w+|software|computer|neural|network|trained|pixels?|detected|obtained|calculated|computed)\b"),
    ("method", "", r"\bwhat are you\b|\balgorithm\b|\btechnolog\w+|\bwhat can you do\b"),
    ("evidence_for", "", r"\b(evidence|reasons?|grounds?|speaks? for|supports?|points? to|decisive|reasoning|show your work|gave (you|it)|based on|base (this|it|that)|justify|indications?|clues?|telltale|basis|backs|elaborate|convinced)\b"),
    ("evidence_for", "", r"\bhow (do|did|can) you (know|come|conclude|arrive|reach|tell)\b|\b(led|made|makes|make) you\b"),
    ("evidence_for", "", r"^\W*why\W*$|\bwhy (do|did|would) you (say|think|choose|pick|call)\b"),
    ("evidence_for", "l", r"\bwhy\b"),
    ("insist", "l", r"^(?!.*\?)\W*(?!(?:why|what|which|how|where|when|who|explain|describe|define|give|tell|show|walk|list|name|argue|make|compare|find|prove|defend|and|is|are|does|do|did|can|could|would|in)\b).*\b(is|are|looks?|shows?|must|stays?|be)\b|^(?!.*\?)\W*(?!(?:why|what|which|how|where|when|who|explain|describe|define|give|tell|show|walk|list|name|argue|make|compare|find|prove|defend)\b).*[.!]\W*$"),
    ("describe_again", "", r"\b(once more|one more time|(come )?again|summari[sz]e\W*$|summari[sz]e (it|this|that|what|your|the (face|expression|evidence|reading|answer))|summary|rephrase|(other|simpler|plain|easy|easier|few|simple) (\w+ )?(words|terms|language|english)|reword|repeat|sum up|recap|simpl(er|y)|brief(ly)?|short(er)?|paraphrase)\b"),
    ("describe_again", "", r"\b(describe|summari[sz]e|tell me about|talk about) (it|(the|this|that|his|her) (\w+ )?(face|expression)|this|what you see)\b"),
    ("insist", "l", r"^(?!.*\?)(hm+|uh|oh|well|but|\W)*(no|nope|yes|it|he|she|this|that|they|the (face|man|woman|person|label)|as an?|come on|listen|look)\b"),
    ("insist", "l", r"^(?!.*\?)\W*(i am|i'm) an?\b"),
)  # fmt: skip


def by_rule(words: str, label: str | None, unit: str | None, region: str | None) -> str | None:
    named = CODE.search(words) or any(name in words for name in UNIT_NAMES)
    mentions = {"l": label, "u": unit, "r": region, "n": named and unit}
    for kind, needs, pattern in _RULES:
        if all(mentions[need] for need in needs) and re.search(pattern, words):
            return kind
    return None
