"""The words of `reading` as data: parts of the face, movements, amounts, and which part with which movement is which unit.

Entries are sequences of base forms without articles, possessives and sides, which the reader drops. The tables know
nothing of our own sentences: they are meant for anybody's English.
"""

from __future__ import annotations

from emoreason.facs import ACTION_UNITS

# Every word of a line is read as the first one.
_FORMS = """
brow brows eyebrow eyebrows
lid lids eyelid eyelids
eye eyes
iris irises
cheek cheeks cheekbone cheekbones
nose nasal nostril nostrils
lip lips
mouth mouths
jaw jaws mandible
tooth teeth
gum gums
forehead foreheads
corner corners
end ends tip tips
tail tails
side sides
edge edges rim rims
part-of portion portions half halves
raise raises raised raising lift lifts lifted lifting elevate elevates elevated elevating elevation elevations rise
 rises rising risen hoist hoisted uplift uplifts uplifted uplifting heighten heightened upraised climb climbs climbing retract retracts retracted retracting retraction
up upward upwards upturned upturn upswept
lowered lowers lowering depress depresses depressed depressing depression
down downward downwards downturned downturn
droop droops drooped drooping droopy sag sags sagged sagging sink sinks sinking sank sunk sunken
drop drops dropped dropping fall falls falling fallen descent
slack lax loosened loosens slacken slackens slackened slackening slackness
hang hangs hanging hung
turn turns turned turning
curve curves curved curving curvature curl curls curled curling bend bends bent point points
slant slants slanted slanting tilt tilts tilted tilting slope slopes sloped sloping
oblique obliquely
pull pulls pulled pulling draw draws drawn drawing tug tugs tugged brought
drag drags dragged dragging
push pushes pushed pushing nudge nudges nudged
squeeze squeezes squeezed squeezing
press presses pressed pressing pressure compress compresses compressed compression compressing clamp clamps clamped
clench clenches clenched clenching
tight tighten tightens tightened tightening tightness tighter tense tenses tensed tensing tension tensions taut
 firm firmer firmly straighten straightened straightens
thin thinned thins thinner thinning
narrow narrows narrowed narrowing narrower squint squints squinted squinting squinty
slit slits
wide widely wider widen widens widened widening enlarge enlarged
open opens opened opening openings unclosed
agape ajar
gape gapes gaped gaping
apart parted parting separated separate separates separation space
close closes closed closing closure shut shuts shutting
knit knits knitted knitting
contract contracts contracted contraction contracting converge converges
furrow furrows furrowed furrowing
crease creases creased creasing wrinkle wrinkles wrinkled wrinkling crinkle crinkles crinkled crinkling line lines
 fold folds scrunch scrunches scrunched scrunching
bunch bunches bunched bunching
pit pitted
arch arches arched arching
stretch stretches stretched stretching outstretched
sideways laterally lateral horizontally horizontal
vertical vertically lengthwise
flat flatten flattens flattened flattening flatter
pucker puckers puckered puckering purse purses pursed pursing
round rounds rounded rounding
funnel funnels funneled funneling flare flares flared flaring
outward outwards
roll rolls rolled rolling
suck sucks sucked sucking
tuck tucks tucked tucking
pinch pinches pinched pinching
dimple dimples dimpled dimpling
blink blinks blinking blinked
show shows showed showing shown reveal reveals revealed revealing expose exposes exposed exposing display displays
 displayed displaying
bare bares bared baring
uncover uncovers uncovered uncovering
cover covers covered covering
disappear disappears disappeared vanish vanished
smile smiles smiling smiled grin grins grinning grinned
frown frowns frowning frowned scowl scowls scowling
white whites sclera
deepen deepens deepened deeper
resting rest rests
relaxed relaxes relax loose limp
forward forwards protrude protrudes protruded protruding
toward towards
centre center
ear ears
one ones
"""


def _lines(text: str) -> list[str]:
    return text.strip().replace("\n ", " ").splitlines()


FORMS: dict[str, str] = {form: words[0] for words in map(str.split, _lines(_FORMS)) for form in words}

# name: entry | entry; an entry may say an amount as well ("well apart@marked").
PARTS = """
brow: brow | full length of brow
inner: inner brow | inner brow end | inner brow corner | inner end of brow | inner corner of brow | inner part of brow
 | inner part-of of brow | inner edge of brow | skin above nose root | inner part-of brow | middle of brow | inner brow part
 | inner brow edge | inner brow part-of
outer: outer brow | outer brow end | outer brow corner | outer end of brow | outer corner of brow | outer part of brow
 | outer part-of of brow | outer edge of brow | tail of brow | brow tail | outer part-of brow | outer brow part
 | outer brow edge | outer brow part-of
forehead: forehead | forehead above brow
midforehead: middle of forehead | centre of forehead | central forehead
sideforehead: side of forehead
lid: lid | lid of eye
upperlid: upper lid | upper lid of eye
lowerlid: lower lid | lower lid of eye
eye: eye | gaze of eye
iris: iris
white: white
eyecorner: outer corner of eye | outer eye corner | eye corner | corner of eye | side of eye
aroundmouth: skin around mouth
undereye: skin under eye | skin below eye | skin beneath eye
aroundeye: skin around eye | muscle around eye | area around eye
cheek: cheek
nose: nose | bridge of nose | root of nose | side of nose | skin of nose | nose wing | nose bridge | wing of nose
naso: furrow beside nose | nasolabial crease | nasolabial furrow
corner: lip corner | outer lip corner | outer mouth corner | corner of mouth | corner of lip | mouth corner | end of mouth | side of mouth | edge of mouth
 | outer corner of mouth | crease of mouth | end of lip | lip end | mouth end
upperlip: upper lip | middle of upper lip | top lip
lowerlip: lower lip | bottom lip
lips: lip | upper and lower lip | upper lip and lower lip | top and bottom lip | upper and bottom lip | top and lower lip | upper and lower one
red: red of lip | red
redpart: part of red of lip@slight | most of red of lip@marked
lipedge: edge of lip | inner edge of lip | inner side of lip
mouth: mouth
jaw: jaw | lower jaw
chin: chin | skin of chin
teeth: tooth | inside of mouth
upperteeth: upper tooth | top tooth
lowerteeth: lower tooth | bottom tooth | lower gum | edge of lower tooth
"""

MOVES = """
up: raise | up | high | higher | reach up@strong | as high as@strong | above resting place | above rest place | upright | go up | move up
down: lowered | lower | down | droop | below resting place | low | lower than at resting | toward chin
drop: drop
hang: hang
slack: slack
turn: turn
curve: curve
angular: angular
foldbelow: crease below
running: crease running into
slant: slant
oblique: oblique
pull: pull | drag@strong
push: push | driven@strong
press: press
clench: clench
squeeze: squeeze
together: together | contract | meet
knit: knit
furrow: furrow
line: crease | line
arch: arch
tight: tight | so firm@strong
thin: thin | thin line@strong
narrow: narrow | narrower than at resting | narrower than usual | as narrow as@strong
slit: slit
wide: wide | as wide as@strong
broad: wide sideways | wide toward ear | wider than at resting | wider than usual | wider than normal | widened toward ear | widened sideways
open: open
wideopen: wide open
opening: open of
gape: gape
agape: agape
apart: apart | part | gap | well apart@marked | narrow gap@slight | thin gap@trace | wide gap@marked
close: close | resting on lower one@strong
half: part-of
stretch: stretch
sideways: sideways | back | straight back | toward ear
vertical: vertical | top to bottom | tall oval@strong | longer | tall
flat: flat
pucker: pucker
round: round
forward: forward
funnel: funnel | outward
in: inward | suck | tuck | tuck in | pinch | pinch in | roll in | roll | pull in | press in | in over | between tooth
 | pull over tooth | into cheek
dimple: dimple
bunch: bunch | pit
show: show | visible@marked | in view | into view
bare: bare | laid bare
more: more | more than at resting
less: less
uncover: uncover
cover: cover
overlie: over iris | over eye
disappear: disappear | all but disappear
blink: blink | passing dip@slight | swept down@marked
deepen: deepen
deep: deep
straight: straight | level
away: away
neutral: neutral | even
rest: at resting | in resting place | in resting position | in place | resting | relaxed | smooth | unmoved
 | as usual | steady
"""

# Whole expressions that stand for units by themselves. A smile is a movement here: it is no word for an emotion.
UNITS = """
12: smile
4: frown
6: crow feet
25 26: open mouthed
"""

# part: movements [-excluded] = units [@band when no amount is said] [!band whatever is said]; ~unit: said to be absent.
RULES = """
brow: up -slant -together = 1 2
brow: up together -slant = 1 2
brow: arch = 1 2
brow: up straight = 1 2 4
brow: slant = 1 @marked
brow: down -slant = 4
brow: press down = 4 @marked
brow: together = 4
brow: knit = 4 @strong
brow: oblique = 1 4
brow: furrow = 4
brow: line = 4 @marked
brow: tight = 4
brow: in = 4
brow: press = 4 @marked
brow: rest -down -up = ~1 ~2 ~4
brow: neutral = ~1 ~2 ~4
brow: straight -up = ~1 ~2 ~4
brow: flat = ~1 ~2 ~4
inner: up = 1
inner: slant = 1
inner: together = 4
inner: knit = 4
inner: oblique = 1
inner: down = 4
inner: in = 4
inner: rest = ~1
outer: up = 2
outer: arch = 2
outer: rest = ~2
forehead: line = 1 2
forehead: furrow = 4
forehead: rest = ~1 ~2 ~4
forehead: straight = ~1 ~2 ~4
forehead: flat = ~1 ~2 ~4
midforehead: line = 1 @marked
sideforehead: line = 2 @marked
lid: up = 5
lid: down = 43
lid: drop = 43
lid: hang = 43
lid: close -squeeze = 43 @strong
lid: tight -up = 7
lid: up tight = 7
lid: narrow = 7
lid: together = 7
lid: overlie = 43
lid: broad = 5
lid: slit = 7 @strong
lid: squeeze = 7
lid: pull together = 7
lid: wide = 5
lid: open more = 5
lid: blink = 45
lid: rest -down = ~5 ~7 ~43
lid: straight -tight = ~5 ~7 ~43
upperlid: up = 5
upperlid: sideways = 5
upperlid: wide = 5
upperlid: open = 5
upperlid: down = 43
upperlid: drop = 43
upperlid: hang = 43
upperlid: overlie = 43
upperlid: cover = 43 @marked
upperlid: broad = 5
upperlid: close = 43
upperlid: tight = 7
upperlid: disappear = 5 @strong
upperlid: less show = 5 !trace
upperlid: rest -down = ~5 ~43
lowerlid: up -straight = 7
lowerlid: up straight = 7 @marked
lowerlid: tight = 7 @marked
lowerlid: straight = 7
lowerlid: narrow = 7
lowerlid: squeeze = 7
lowerlid: together = 7
lowerlid: bunch = 6
lowerlid: rest = ~7
eye: wide -narrow = 5
eye: wideopen = 5 @marked
eye: broad = 5
eye: up = 5
eye: open more = 5
eye: narrow = 7 @marked
eye: slit = 7 @strong
eye: tight = 7
eye: squeeze = 7
eye: close half -narrow = 43 !marked
eye: close -half -blink = 43 @strong
eye: down = 43
eye: blink -close = 45 @marked
eye: close blink = 45 @strong
eye: line = 6
eye: rest = ~5 ~7 ~43
eye: neutral = ~5 ~7 ~43
iris: uncover = 5 @marked
iris: covered = 43 @marked
white: show = 5
white: up = 5
eyecorner: line = 6
eyecorner: bunch = 6
undereye: push = 6
undereye: up = 6
undereye: bunch = 6
undereye: line = 6
aroundeye: bunch = 6
aroundeye: tight = 6
aroundeye: in = 6
aroundeye: line = 6
cheek: up -slack = 6
cheek: push = 6 @marked
cheek: bunch = 6 @marked
cheek: flat = 27 @marked
cheek: rest = ~6
nose: line = 9
nose: furrow = 9
nose: up -bunch = 9 @marked
nose: bunch = 9 @strong
nose: rest = ~9
naso: deep = 10 !marked
naso: deepen = 10 @marked
upperlip: up = 10
upperlip: curve -down = 10
upperlip: up angular = 10 @marked
upperlip: rest = ~10
corner: up = 12
corner: up sideways = 12 @marked
corner: down = 15
corner: down foldbelow = 15 @marked
corner: drop = 15
corner: tight -up -down = 14
corner: in -up -down = 14 @marked
corner: press = 14
corner: sideways -up -down = 20 @marked
corner: stretch -up -down = 20
corner: dimple = 14
corner: rest = ~12 ~15
corner: neutral = ~12 ~15
corner: straight -sideways = ~12 ~15
mouth: up -open = 12
mouth: stretch wide up = 12 @strong
mouth: down -open -apart -stretch = 15
mouth: curve down = 15 @marked
mouth: open -stretch -vertical -pull -gape = 25
mouth: opening -stretch -vertical -pull -gape = 25
mouth: gape = 27
mouth: hang open = 25 26
mouth: hang wideopen = 25 26
mouth: wideopen -stretch -vertical -pull = 25 26
mouth: stretch wideopen = 25 27
mouth: stretch open = 27
mouth: pull open = 27
mouth: stretch wide -open -up -sideways -flat = 27
mouth: stretch down = 27
mouth: stretch agape = 27
mouth: agape -stretch = 25 26
mouth: apart = 25
mouth: drop = 25 26
mouth: vertical -stretch = 27
mouth: stretch vertical = 27
mouth: stretch -sideways -flat -up = 27
mouth: stretch sideways = 20
mouth: stretch flat = 20
mouth: wide flat -open -up = 20 @marked
mouth: wide tight -open -up = 20 @strong
mouth: wide sideways -open -up = 20
mouth: broad = 20
mouth: pull wide -open -up -flat -tight = 20
mouth: narrow = 18
mouth: together = 18 @marked
mouth: pucker = 18
mouth: funnel -wide = 22 @marked
mouth: funnel wide = 22 @strong
mouth: press = 24 @strong
mouth: close tight = 24 @marked
mouth: tight -close -wide = 23
mouth: in = 14
mouth: dimple = 14
mouth: close -press -tight = ~25
mouth: rest -wide -narrow -up -down -vertical -open = ~12 ~15
mouth: neutral = ~12 ~15
mouth: straight = ~12 ~15
mouth: flat -wide -stretch = ~12 ~15
lips: apart -press = 25
lips: wideopen = 25 @strong
lips: open -press = 25
lips: press = 24
lips: push together -forward = 24
lips: squeeze = 24
lips: slit = 25
lips: opening = 25
lips: gape = 25
lips: narrow = 23
lips: close flat = 24 @marked
lips: tight -press = 23
lips: thin = 23
lips: tight thin = 23 @marked
lips: in -press -disappear = 28 @marked
lips: disappear = 28 @strong
lips: funnel = 22
lips: funnel forward = 22 @marked
lips: turn forward = 22
lips: pucker = 18
lips: round = 18
lips: round running = 18 !marked
lips: together pull = 18
lips: forward -funnel = 18
lips: stretch = 20
lips: wide sideways = 20
lips: broad = 20
lips: pull sideways = 20
lips: up = 12
lips: down = 15
lips: close -press -squeeze -flat -tight -in = ~25
lips: together -press -squeeze -pull -push = ~25
lips: rest -part -apart = ~24
lips: neutral = ~24
red: less = 23 !trace
red: narrow = 23 @marked
red: disappear = 23 @strong
red: in = 23
redpart: in = 28
aroundmouth: pull tight = 28 @strong
lipedge: tight = 23
lipedge: in = 28
lipedge: show = 22
lowerlip: down = 16
lowerlip: down bare = 16 @marked
lowerlip: drop = 16
lowerlip: away = 16 @marked
lowerlip: up = 17
lowerlip: push = 17
lowerlip: rest = ~16
jaw: down -pull = 26
jaw: drop = 26
jaw: hang -wideopen = 26 @marked
jaw: wideopen = 26 @strong
jaw: slack = 26
jaw: open -pull = 26
jaw: agape = 26
jaw: apart = 26
jaw: pull down = 27
jaw: stretch = 27
jaw: close = ~26 ~27
jaw: rest -down -up = ~26 ~27
jaw: neutral = ~26 ~27
chin: up = 17
chin: push = 17 @marked
chin: line = 17
chin: pucker = 17 @marked
chin: bunch = 17
chin: dimple = 17
chin: down = 26 @marked
chin: rest = ~17
teeth: show = 25 @marked
teeth: bare = 25
teeth: apart = 26
upperteeth: show = 25
upperteeth: bare = 25
lowerteeth: show = 16
lowerteeth: bare = 16
"""

AMOUNTS = """
trace: barely | trace | hint | touch | just | only just | faint | faintly | faintest | minimal | minimally | hardly | scarcely
 | begin | suggestion | fractionally | fraction | marginally | marginal | subtle | subtly | weak | weakly | imperceptibly
 | imperceptible | hair | tiny | minute | perceptible | whisper | shadow | merest | start | fractional | thinnest
slight: slightly | slight | little | somewhat | some | shallow | fine | small | smallish | mild | mildly | gently | gentle
 | modestly | modest | strip | minor | early | moderate | moderately | bit | lightly | light | softly | soft | limited
 | partially | partly | partial
marked: clearly | clear | markedly | marked | distinct | distinctly | noticeable | noticeably | pronounced | definite
 | definitely | obvious | obviously | evident | evidently | plainly | plain | notably | prominent | prominently
 | considerably | considerable | mid | visibly | unmistakably | unmistakable | conspicuously | conspicuous
 | appreciably | appreciable | decidedly | decided | good deal | good part | well into | most
strong: strongly | strong | deep | deeply | hard | very | far | fully | completely | high | limit | extremely | extreme
 | intense | intensely | steep | steeply | tightly | nearly | all over | as far as | so far | until | tight knot | with great force | with full force
 | significantly | significant | sharply | sharp | heavily | heavy | full | dramatically | dramatic | exaggerated
 | severely | severe | vividly | powerfully | powerful | utmost | almost | thoroughly | forcefully | forceful | greatly
 | great | great deal | emphatically | emphatic | vigorously | vigorous | large | bottom of
"""

IGNORED = "skip: stands back | stand back | falls behind | fall behind | fall back | fall among | fall under | fall within | fall short | fall in line | draw on | draw from | resting on | resting upon | point to | point toward | turn into | round off | close second | close behind | part of | as well | as well as | lower one | upper one"

NEGATIONS = """not: no | not | never | none | nothing | without | absence of | lack of | lack | lacks | lacking | free of
 | no sign of | no sign that | no evidence that | no indication that | rather than | instead of | cannot | devoid of | nor | neither
 | free from | no longer
cut: together with
hedge: not counting | without forgetting | not forgetting | not to mention | not only | not just | not merely | not fully@slight | not completely@slight | not entirely@slight | not quite@slight | no doubt | all but
absent: absent | missing | inactive | undetected
"""

SMALL = {
    "of": "regarding concerning of in at to on for along across around between about near",
    "away": "toward towards",
    "place": "above below beneath under underneath over beside against into onto behind from than through off",
    "by": "by",
    "skip": "the a an his her their its this that's these those both two my your person subject individual's person's"
    " subject's face's any such own he she they it i",
    "and": "and or / & plus",
    "cut": "with as which that who so because where then also",
    "hard": "but while whereas although though yet however meanwhile",
    "aux": "is are was were has have had be been being do does did can could may might seem seems look looks appear appears"
    " remain remains stay stays keep keeps sit sits lie lies get gets become becomes will would",
}


def entries(text: str) -> list[tuple[str, tuple[str, ...], str | None]]:
    """(name, words, amount) of every entry of a table."""
    found = []
    for line in _lines(text):
        name, _, entries = line.partition(":")
        for entry in entries.split("|"):
            words, _, amount = entry.strip().partition("@")
            if words:
                found.append((name, tuple(words.split()), amount or None))
    return found


def names() -> str:
    """The names of the units that say what the part does ("lip corner puller"), as a table."""
    agents = ("er", "or", "pucker")
    return "\n".join(f"{unit.code}: {unit.name}" for unit in ACTION_UNITS.values() if unit.name.endswith(agents))
