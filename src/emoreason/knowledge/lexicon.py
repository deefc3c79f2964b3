"""Word lists for reading a text about a face: parts, movements, amounts, and the action units they mean.

Entries are sequences of base forms without articles, possessives and sides, which the reader removes. The tables are
not tied to the sentences that emoreason writes: they are meant for anyone's English.
"""

from __future__ import annotations

from emoreason.knowledge.facs import ACTION_UNITS

# Every word of a line is treated as its first word.
_FORMS = """
brow brows eyebrow eyebrows
lid lids eyelid eyelids
eye eyes eyed
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
 rises rising risen hoist hoisted uplift uplifts uplifted uplifting heighten heightened upraised climb climbs
 climbing retract retracts retracted retracting retraction
up upward upwards upturned upturn upswept
lowered lowers lowering depress depresses depressed depressing depression
down downward downwards downturned downturn
droop droops drooped drooping droopy dip dips dipped dipping sag sags sagged sagging sink sinks sinking sank sunk sunken
drop drops dropped dropping fall falls falling fallen descent descents
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
tight tighten tightens tightened tightening tightness tighter tense tenses tensed tensing tension tensions taut firm
 firmer firmly straighten straightened straightens
thin thinned thins thinner thinning
narrow narrows narrowed narrowing narrower
squint squints squinted squinting squinty
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
spread spreads
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
relaxed relaxes relax limp
loose looser
follow follows
stay stays stayed
shoot shoots shot
forward forwards protrude protrudes protruded protruding
toward towards
centre center
ear ears
one ones
"""


def lines(text: str) -> list[str]:
    return text.strip().replace("\n ", " ").splitlines()


FORMS: dict[str, str] = {form: words[0] for words in map(str.split, lines(_FORMS)) for form in words}

# name: entry | entry; an entry may also give an amount ("well apart@marked").
PARTS = """
brow: brow
allbrow: full length of brow | end of brow | brow end | whole brow | inner and outer brow | outer and inner brow
 | inner and outer end of brow | inner and outer brow end | outer and inner end of brow | outer and inner brow end
inner: inner brow | inside of brow | inside end of brow | inner end | inner one | inner part of it
 | inner brow end | inner brow corner | inner end of brow | inner corner of brow
 | inner part of brow | inner part-of of brow | inner edge of brow | skin above nose root | inner part-of brow
 | middle of brow | inner brow part | inner brow edge | inner brow part-of
outer: outer brow | outer end | outer one | outer brow end | outer brow corner | outer end of brow
 | outer corner of brow
 | outer part of brow | outer part-of of brow | outer edge of brow | tail of brow | brow tail | outer part-of brow
 | outer brow part | outer brow edge | outer brow part-of
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
corner: lip corner | outer lip corner | outer mouth corner | corner of mouth | corner of lip | mouth corner
 | end of mouth | side of mouth | edge of mouth | outer corner of mouth | crease of mouth | end of lip | lip end
 | mouth end | corner
upperlip: upper lip | middle of upper lip | top lip | upper one
lowerlip: lower lip | bottom lip
lips: lip | upper and lower lip | upper lip and lower lip | top and bottom lip | upper and bottom lip
 | top and lower lip | upper and lower one
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
up: raise | up | shoot up | well up@strong | follow | climb up | high | higher | reach up@strong
 | as high as@strong | above resting place | above rest place
 | upright | go up | move up
down: lowered | lower | down | droop | below resting place | low | lower than at resting | toward chin
drop: drop
hang: hang
slack: slack | loose
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
together: together | together with great force@strong | together with full force@strong | contract | meet
knit: knit
furrow: furrow
line: crease | line
arch: arch
tight: tight | so firm@strong
thin: thin | thin line@strong
narrow: narrow | squint@marked | narrower than at resting | narrower than usual | as narrow as@strong
slit: slit
wide: wide | as wide as@strong
broad: wide sideways | wide toward ear | wider than at resting | wider than usual | wider than normal
 | widened toward ear | widened sideways
open: open
wideopen: wide open | open wide | open very wide@strong | very wide open@strong | open so wide@strong
opening: open of
gape: gape
agape: agape
apart: apart | part | gap | wide apart@strong | spread apart | spread far apart@strong | well apart@marked
 | narrow gap@slight | thin gap@trace | wide gap@marked
close: close | resting on lower one@strong
half: part-of
stretch: stretch
sideways: sideways | back | straight back | toward ear
vertical: vertical | top to bottom | tall oval@strong | longer | tall
flat: flat
flatby: flat by
pucker: pucker
round: round
forward: forward
funnel: funnel | outward
in: inward | inward tuck | suck | tuck | tuck in | pinch | pinch in | roll in | roll | pull in | press in | in over
 | between tooth | pull over tooth | into cheek
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
asever: usual width | normal width | usual opening | normal opening
straight: straight | level
away: away
neutral: neutral
rest: at resting | in resting place | in resting position | in place | resting | relaxed | smooth | unmoved
 | as usual | steady | stay down | stay low | stay up | quiet | idle | stay put | stay still
"""

# Expressions that mean units without naming a part. A smile counts as a movement, not as an emotion.
UNITS = """
12: smile
4: frown
6: crow feet
25: open mouthed
"""

# part: movements [-excluded] | … = units [@band if the text gives no amount] [!band always]; ~unit: unit is absent.
RULES = """
brow: up -slant -together | arch = 1/2 2/1
brow: up together -slant = 1/2 2/1
allbrow: up -slant | arch = 1 2
brow: up straight = 1 2 4
brow: slant = 1 @marked
brow: down -slant | together | furrow | tight | in = 4
brow: press down | line | press = 4 @marked
brow: knit = 4 @strong
brow: oblique = 1 4
brow: rest -down -up | neutral | straight -up | flat = ~1 ~2 ~4
inner: up | slant | oblique = 1
inner: together | knit | down | in = 4
inner: rest = ~1
outer: up | arch = 2
outer: rest = ~2
forehead: line = 1 2
forehead: furrow = 4
forehead: rest | straight | flat = ~1 ~2 ~4
midforehead: line = 1 @marked
sideforehead: line = 2 @marked
lid: up | broad | wide | open more = 5
lid: down | drop | hang | overlie = 43
lid: close -squeeze -half = 43 @strong
lid: close half = 43 !marked
lid: tight -up -close | up tight | narrow | together | squeeze | pull together = 7
lid: slit = 7 @strong
lid: blink = 45
lid: rest -down | straight -tight | slack = ~7
upperlid: up | sideways | wide | open | broad = 5
upperlid: down | drop | hang | overlie | close = 43
upperlid: cover = 43 @marked
upperlid: tight = 7
upperlid: disappear = 5 @strong
upperlid: less show = 5 !trace
upperlid: rest -down = ~5 ~43
lowerlid: up -straight | straight | narrow | squeeze | together = 7
lowerlid: up straight | tight = 7 @marked
lowerlid: bunch = 6
lowerlid: rest = ~7
eye: wide -narrow | broad | up | open more = 5
eye: wideopen = 5 @marked
eye: narrow = 7
eye: slit = 7 @strong
eye: tight -close | squeeze = 7
eye: close half -narrow = 43 !marked
eye: close -half -blink = 43 @strong
eye: down = 43
eye: blink -close = 45 @marked
eye: close blink = 45 @strong
eye: line = 6
eye: rest | neutral = ~5 ~7 ~43
eye: asever = ~5
iris: uncover = 5 @marked
iris: covered = 43 @marked
white: show | up = 5
eyecorner: line | bunch = 6
undereye: push | up | bunch | line = 6
aroundeye: bunch | tight | in | line = 6
cheek: up -slack = 6
cheek: push | bunch = 6 @marked
cheek: flatby = 27 @marked
cheek: rest = ~6
nose: line | furrow = 9
nose: up -bunch = 9 @marked
nose: bunch = 9 @strong
nose: rest = ~9
naso: deep = 10 !marked
naso: deepen = 10 @marked
upperlip: up | curve -down = 10
upperlip: up angular = 10 @marked
upperlip: rest = ~10
corner: up = 12
corner: up sideways = 12 @marked
corner: down | drop = 15
corner: down foldbelow = 15 @marked
corner: tight -up -down | press | dimple = 14
corner: in -up -down = 14 @marked
corner: sideways -up -down = 20 @marked
corner: stretch -up -down = 20
corner: rest | neutral | straight -sideways = ~12 ~15
mouth: up -open = 12
mouth: stretch wide up = 12 @strong
mouth: down -open -apart -stretch = 15
mouth: curve down = 15 @marked
mouth: open -stretch -vertical -pull -gape | opening -stretch -vertical -pull -gape | apart = 25
mouth: pull open = 27/20
mouth: gape | stretch open | stretch wide -open -up -sideways -flat | stretch down | stretch agape
 | vertical -stretch | stretch vertical = 27
mouth: stretch -sideways -flat -up -open -wide -down -agape -vertical = 27/20
mouth: hang open | hang wideopen | agape -stretch | drop = 25 26
mouth: wideopen -stretch -vertical -pull -hang = 27/26
mouth: stretch wideopen = 25 27
mouth: stretch sideways | stretch flat | wide sideways -open -up | broad | pull wide -open -up -flat -tight = 20
mouth: wide flat -open -up = 20 @marked
mouth: wide tight -open -up = 20 @strong
mouth: narrow | pucker = 18
mouth: together = 18 @marked
mouth: funnel -wide = 22 @marked
mouth: funnel wide = 22 @strong
mouth: press = 24 @strong
mouth: close tight = 24 @marked
mouth: tight -close -wide = 23/24
mouth: in | dimple = 14
mouth: close -press -tight = ~25
mouth: rest -wide -narrow -up -down -vertical -open | neutral | straight | flat -wide -stretch = ~12 ~15
lips: apart -press | open -press | slit | opening | gape = 25
lips: wideopen = 25 @strong
lips: press | push together -forward | squeeze = 24
lips: narrow | tight -press -thin = 23/24
lips: thin = 23
lips: close flat = 24 @marked
lips: tight thin = 23 @marked
lips: in -press -disappear = 28 @marked
lips: disappear = 28 @strong
lips: funnel | turn forward = 22
lips: funnel forward = 22 @marked
lips: pucker | round | together pull | forward -funnel = 18
lips: round running = 18 !marked
lips: stretch | wide sideways | broad | pull sideways | pull wide = 20
lips: up = 12/10
lip: up = 10/12
lips: down = 15
lips: close -press -squeeze -flat -tight -in | together -press -squeeze -pull -push = ~25
lips: rest -part -apart | slack | neutral = ~24
red: less = 23 !trace
red: narrow = 23 @marked
red: disappear = 23 @strong
red: in = 23
redpart: in = 28
aroundmouth: pull tight = 28 @strong
lipedge: tight = 23
lipedge: in = 28
lipedge: show = 22
lowerlip: down | drop = 16
lowerlip: down bare | away = 16 @marked
lowerlip: up | push = 17
lowerlip: rest = ~16
jaw: down -pull | drop | slack | open -pull | agape | apart = 26
jaw: hang -wideopen = 26 @marked
jaw: wideopen = 26 @strong
jaw: pull down | stretch = 27
jaw: close | up | rest -down | neutral = ~26 ~27
chin: up | line | bunch | dimple = 17
chin: push | pucker = 17 @marked
chin: down = 26 @marked
chin: rest = ~17
teeth: show = 25 @marked
teeth: bare = 25
teeth: apart = 26
upperteeth: show | bare = 25
lowerteeth: show | bare = 16
"""

AMOUNTS = """
trace: barely | just a little | just a bit | just slightly | trace | hint | touch | just | only just | faint
 | faintly | faintest | minimal | minimally | hardly
 | scarcely | begin | suggestion | fractionally | fraction | marginally | marginal | subtle | subtly | weak | weakly
 | imperceptibly | imperceptible | hair | tiny | minute | perceptible | whisper | shadow | merest | start
 | fractional | thinnest
slight: slightly | slight | little | somewhat | some | shallow | fine | small | smallish | mild | mildly | gently
 | gentle | modestly | modest | strip | minor | early | moderate | moderately | bit | lightly | light | softly | soft
 | limited | partially | partly | partial
marked: clearly | clear | markedly | marked | distinct | distinctly | noticeable | noticeably | pronounced | definite
 | definitely | obvious | obviously | evident | evidently | plainly | plain | notably | prominent | prominently
 | considerably | considerable | mid | visibly | unmistakably | unmistakable | conspicuously | conspicuous
 | appreciably | appreciable | decidedly | decided | good deal | good part | well into | most
strong: strongly | strong | deep | deeply | hard | very | far | fully | completely | high | limit | extremely
 | extreme | intense | intensely | steep | steeply | tightly | nearly | all over | as far as | so far | until
 | tight knot | with great force | with full force | significantly | significant | sharply | sharp | heavily | heavy
 | full | dramatically | dramatic | exaggerated | severely | severe | vividly | powerfully | powerful | utmost
 | almost | thoroughly | forcefully | forceful | greatly | great | great deal | emphatically | emphatic | vigorously
 | vigorous | large | bottom of
"""

# Phrases by effect: negate what follows, negate what precedes, only look like a negation, end a segment, no effect.
PHRASES = """
skip: rest of | the rest | from rest | pure rest | plain rest | mere rest | just as | bit more on
 | little more on | resting face | face rest | face is at rest | looking down | look down on | runner up
 | close to | takes part | take part | anything but idle | anything but at resting | resting one | nothing firm
 | than they do at resting | belong together | fit together | told apart | hint at | some doubt
 | along full length | along whole length | measure as | measured as | at once | go together | goes together
 | what raised them
not: no | not | never | none | nothing | without | absence of | lack of | lack | lacks | lacking | free of
 | free from | no sign of | no sign that | no evidence that | no indication that | rather than | instead of | cannot
 | devoid of | nor | neither | no longer
absent: absent | missing | inactive | undetected
hedge: not strongly | not far | not very | not counting | without forgetting | not forgetting | not to mention
 | not only | not just | not merely
 | no doubt | not fully@slight | not completely@slight | not entirely@slight | not quite@slight | all but
cut: together with | as well as
skip: apart from
 | stands back | stand back | falls behind | fall behind | fall back | fall among | fall under | fall within
 | fall short | fall in line | draw on | draw from | resting on | resting upon | point to | point toward | turn into
 | round off | close second | close behind | part of | as well | lower one | upper one
"""

# Words by effect: "of" may introduce the part that moves, "place" and "away" say where it moves to.
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
    "aux": "is are was were has have had be been being do does did can could may might seem seems look looks appear"
    " appears remain remains stay stays keep keeps sit sits lie lies get gets become becomes will would",
}

# Words that follow their part ("pulled up"), and adjectives that precede it without an ending ("tight lips").
PARTICLES = (
    "up upward upwards down downward downwards in inward outward over back forward forwards apart together away ear"
)
ADJECTIVES = (
    "open wide tight thin narrow high low agape ajar firm taut tense apart flat round shut slack lax loose level"
    " straight deep deeper oblique smooth even steady neutral vertical lengthwise horizontal together"
)


def entries(text: str) -> list[tuple[str, tuple[str, ...], str | None]]:
    """Every entry of a table as (name, words, amount)."""
    found = []
    for line in lines(text):
        name, _, entries = line.partition(":")
        for entry in entries.split("|"):
            words, _, amount = entry.strip().partition("@")
            if words:
                found.append((name, tuple(words.split()), amount or None))
    return found


def names() -> str:
    """A table of the unit names that say what a part does ("lip corner puller")."""
    agents = ("er", "or")
    return "\n".join(f"{unit.code}: {unit.name}" for unit in ACTION_UNITS.values() if unit.name.endswith(agents))
