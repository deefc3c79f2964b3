"""Action units of the Facial Action Coding System as data: code, name, region, neutral phrases, emotion prototypes.

Names and muscles follow Ekman, Friesen & Hager, "Facial Action Coding System: The Manual" (2002). The phrases are ours.
They are clauses without capital and full stop that say what is visible and how strongly. They never name an emotion,
because observations must not give away the label. No clause occurs twice, so a clause identifies its unit and band.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache

from emoreason.knowledge.emotions import canonical

REGIONS = ("brows", "eyes", "cheeks", "nose", "mouth", "chin", "jaw")  # top to bottom, the order of descriptions

# Lower bounds of an intensity from 0 to 1; below the first bound, the unit counts as absent. FACS divides the scale
# into fifths, A to E (trace, slight, marked, severe, maximum): trace is A, slight B, marked C and D, strong close to E.
BANDS: tuple[tuple[str, float], ...] = (("trace", 0.2), ("slight", 0.4), ("marked", 0.6), ("strong", 0.85))
SIDED = ("2", "4", "5", "7", "10", "12", "14", "15", "20", "43")  # units that a face can show on one side alone
ABSENT = 0.1  # a unit below this intensity may be called absent; up to the first band it is undecided
SURE = 0.4  # from here on a text may name a unit; below, it is shown as a number but may be wrong
PLAIN_NAMES = {
    "1": "inner brows up", "2": "outer brows up", "4": "brows down and together", "5": "eyes wide", "6": "cheeks up",
    "7": "lids tight", "9": "nose wrinkled", "10": "upper lip up", "12": "mouth corners up",
    "14": "mouth corner tucked in", "15": "mouth corners down", "16": "lower lip down", "17": "chin pushed up",
    "18": "lips puckered", "20": "lips stretched", "22": "lips funneled", "23": "lips tightened", "24": "lips pressed",
    "25": "lips apart", "26": "jaw dropped", "27": "mouth wide open", "28": "lips sucked in",
    "43": "eyes closed", "45": "blinking",
}  # fmt: skip


@dataclass(frozen=True)
class ActionUnit:
    code: str
    name: str
    region: str
    phrases: dict[str, tuple[str, ...]] = field(hash=False)  # band -> interchangeable clauses
    muscles: str


@dataclass(frozen=True)
class Prototype:
    """Units that a published source links to an emotion: `units` occur together, often with `optional` ones."""

    emotion: str
    units: tuple[str, ...]
    source: str
    optional: tuple[str, ...] = ()


@dataclass(frozen=True)
class Combination:
    """Units that together cause one visible change, to be described once."""

    units: tuple[str, ...]
    phrases: tuple[str, ...]


def band(intensity: float) -> str | None:
    """The band of an intensity; None if the unit is absent (or the intensity is NaN)."""
    found = None
    for name, lower in BANDS:
        if intensity >= lower:
            found = name
    return found


def phrase(code: str, intensity: float, choice: int = 0) -> str | None:
    """A clause about a unit at an intensity; `choice` selects one of several equivalents. None if it is absent."""
    found = band(intensity)
    if found is None:
        return None
    clauses = ACTION_UNITS[code].phrases[found]
    return clauses[choice % len(clauses)]


def opposites(code: str) -> tuple[str, ...]:
    """Units that contradict this one, so that a text must not claim both."""
    return tuple(b if a == code else a for a, b in _OPPOSED if code in (a, b))


def combinations(codes: Collection[str]) -> tuple[Combination, ...]:
    """The combinations among these units, largest first. Each unit is used only once."""
    remaining = set(codes)
    found = []
    for combination in sorted(COMBINATIONS, key=lambda entry: -len(entry.units)):
        if remaining.issuperset(combination.units):
            remaining.difference_update(combination.units)
            found.append(combination)
    return tuple(found)


def _unit(
    code: str, name: str, region: str, muscles: str, *, trace: str, slight: str, marked: str, strong: str
) -> ActionUnit:
    texts = {"trace": trace, "slight": slight, "marked": marked, "strong": strong}
    phrases = {key: tuple(part.strip() for part in text.split("|")) for key, text in texts.items()}
    return ActionUnit(code, name, region, phrases, muscles)


_UNITS = (
    _unit(
        "1", "inner brow raiser", "brows", "frontalis, inner part",
        trace="the inner ends of the brows barely rise | a trace of lift shows at the inner ends of the brows"
        " | the skin above the nose root is just lifted",
        slight="the inner ends of the brows are raised a little | the brows tilt up slightly toward the middle"
        " | there is some lift at the inner brow ends",
        marked="the inner ends of the brows are clearly raised"
        " | the brows slant upward toward the middle of the forehead"
        " | the inner brow ends are pulled up, with short lines in the middle of the forehead",
        strong="the inner ends of the brows are raised as high as they seem to go"
        " | the brows slant steeply upward toward the middle"
        " | deep lines stand in the middle of the forehead over the raised inner brow ends",
    ),
    _unit(
        "2", "outer brow raiser", "brows", "frontalis, outer part",
        trace="the outer ends of the brows barely rise | a trace of lift shows at the outer ends of the brows"
        " | the tails of the brows sit just above their resting place",
        slight="the outer ends of the brows are raised a little | the outer half of the brows is slightly arched"
        " | there is some lift at the tails of the brows",
        marked="the outer ends of the brows are clearly raised | the outer half of the brows forms a distinct arch"
        " | the tails of the brows are pulled up, with lines at the sides of the forehead",
        strong="the outer ends of the brows are raised very high | the outer brows form a steep arch"
        " | the tails of the brows are lifted far up, and the skin below them is stretched",
    ),
    _unit(
        "4", "brow lowerer", "brows", "corrugator supercilii, depressor supercilii, procerus",
        trace="the brows barely come together | a hint of a crease shows between the brows"
        " | the brows sit just below their resting place",
        slight="the brows are drawn together a little | the brows are slightly lowered"
        " | a shallow crease runs between the brows",
        marked="the brows are clearly lowered and drawn together | distinct vertical creases stand between the brows"
        " | the brows press down toward the eyes",
        strong="the brows are pulled down hard and nearly meet | deep creases are cut between the lowered brows"
        " | the brows are knitted and cover part of the upper lids",
    ),
    _unit(
        "5", "upper lid raiser", "eyes", "levator palpebrae superioris",
        trace="the upper lids are barely lifted | the eyes are open by a touch more than at rest"
        " | slightly less of the upper lids is in view than usual",
        slight="the upper lids are raised a little | the eyes are somewhat widened"
        " | a little more of the irises is uncovered",
        marked="the upper lids are clearly raised | the eyes are wide open"
        " | the irises are uncovered up to their upper edge",
        strong="the upper lids are raised so far that white shows above the irises"
        " | the eyes are opened as wide as they go | the upper lids have all but disappeared",
    ),
    _unit(
        "6", "cheek raiser", "cheeks", "orbicularis oculi, outer part",
        trace="the cheeks are barely lifted | a hint of lines shows at the outer corners of the eyes"
        " | the skin under the eyes is just pushed up",
        slight="the cheeks are raised a little | fine lines gather at the outer corners of the eyes"
        " | the lower lids are slightly bunched from below",
        marked="the cheeks are clearly raised and narrow the eyes from below"
        " | distinct lines fan out from the outer corners of the eyes"
        " | the raised cheeks bunch the skin under the eyes",
        strong="the cheeks are pushed up high and nearly close the eyes from below"
        " | deep lines fan out from the eye corners over the lifted cheeks"
        " | the skin around the eyes is drawn tightly inward by the cheeks",
    ),
    _unit(
        "7", "lid tightener", "eyes", "orbicularis oculi, inner part",
        trace="the lids are barely tightened | the lower lids are just straightened"
        " | the eye openings are a touch narrower than at rest",
        slight="the lids are slightly tightened | the lower lids are raised a little | the eyes are somewhat narrowed",
        marked="the lids are clearly tightened | the lower lids are pulled up and straight"
        " | the eyes are narrowed in a steady squint",
        strong="the lids are squeezed to slits | the eyes are narrowed as far as they go while open"
        " | the lower lids are pulled up hard across the irises",
    ),
    _unit(
        "9", "nose wrinkler", "nose", "levator labii superioris alaeque nasi",
        trace="the sides of the nose barely wrinkle | a hint of wrinkles shows at the root of the nose"
        " | the nostril wings are just drawn up",
        slight="the nose is slightly wrinkled | shallow wrinkles run along the sides of the nose"
        " | the nostril wings are raised a little",
        marked="the nose is clearly wrinkled | distinct wrinkles cross the bridge of the nose"
        " | the nostril wings are pulled up and take the middle of the upper lip with them",
        strong="the nose is wrinkled all over | deep folds cross the bridge of the nose"
        " | the skin of the nose is bunched up toward the eyes",
    ),
    _unit(
        "10", "upper lip raiser", "mouth", "levator labii superioris",
        trace="the upper lip is barely lifted | a hint of lift shows in the middle of the upper lip"
        " | the furrows beside the nose are just deeper than at rest",
        slight="the upper lip is raised a little | the upper lip is slightly bent upward"
        " | the furrows beside the nose are somewhat deepened",
        marked="the upper lip is clearly raised | the upper lip is drawn up in an angular bend"
        " | the furrows beside the nose are deep, and the upper lip is lifted",
        strong="the upper lip is raised so far that the gums may show"
        " | the upper lip is pulled up hard toward the nose"
        " | the upper lip is drawn far up and lays the upper teeth bare",
    ),
    _unit(
        "12", "lip corner puller", "mouth", "zygomaticus major",
        trace="the lip corners barely turn up | a hint of an upward pull shows at the lip corners"
        " | the mouth is just curved upward at its ends",
        slight="the lip corners are pulled up a little | the mouth curves slightly upward"
        " | the lip corners are drawn somewhat back and up",
        marked="both lip corners are pulled up markedly | the mouth forms a clear upward curve"
        " | the lip corners are drawn back and up, with curved folds beside the mouth",
        strong="the lip corners are pulled far up and back | the mouth is stretched wide in an upward curve"
        " | the lip corners reach up toward the cheeks, and deep folds frame the mouth",
    ),
    _unit(
        "14", "dimpler", "mouth", "buccinator",
        trace="a lip corner is barely tightened | a hint of a dimple shows beside the mouth"
        " | the mouth is just tucked in at its ends",
        slight="a lip corner is tightened a little | a small dimple forms beside the mouth"
        " | the ends of the mouth are slightly tucked in",
        marked="the lip corners are clearly tightened inward | a distinct dimple stands beside the mouth"
        " | the ends of the mouth are pressed in, and the skin wrinkles beside them",
        strong="the lip corners are pulled hard into the cheeks | deep dimples are pressed in beside the mouth"
        " | the ends of the mouth are tightly pinched and drawn inward",
    ),
    _unit(
        "15", "lip corner depressor", "mouth", "depressor anguli oris",
        trace="the lip corners barely turn down | a hint of a downward pull shows at the lip corners"
        " | the line of the mouth just sinks at its ends",
        slight="the lip corners are pulled down a little | the mouth curves slightly downward"
        " | the ends of the mouth droop somewhat",
        marked="the lip corners are clearly pulled down | the mouth forms a downward curve"
        " | the ends of the mouth are drawn down, with folds below them",
        strong="the lip corners are pulled far down | the mouth is bent into a steep downward curve"
        " | the ends of the mouth are dragged down, and deep folds run toward the chin",
    ),
    _unit(
        "16", "lower lip depressor", "mouth", "depressor labii inferioris",
        trace="the lower lip is barely lowered | the lower lip is just drawn downward"
        " | the edges of the lower teeth may just come into view",
        slight="the lower lip is pulled down a little | the lower lip is slightly stretched downward"
        " | some of the lower teeth come into view",
        marked="the lower lip is clearly pulled down | the lower lip is drawn down and bares the lower teeth"
        " | the lower lip is pulled away from the teeth toward the chin",
        strong="the lower lip is pulled down so far that the lower gums may show"
        " | the lower lip is dragged hard toward the chin | the lower teeth are laid bare over their full height",
    ),
    _unit(
        "17", "chin raiser", "chin", "mentalis",
        trace="the chin is barely pushed up | the skin of the chin just begins to pucker"
        " | the lower lip is just nudged up from below",
        slight="the chin is raised a little | the skin of the chin is slightly dimpled"
        " | the lower lip is pushed up somewhat",
        marked="the chin is clearly pushed up | the skin of the chin is puckered"
        " | the raised chin pushes the lower lip up and forward",
        strong="the chin is pushed up hard | the skin of the chin is tightly bunched and pitted"
        " | the lower lip is driven up against the upper one by the chin",
    ),
    _unit(
        "18", "lip pucker", "mouth", "incisivii labii superioris and inferioris",
        trace="the lips are barely drawn together | a hint of rounding shows at the lips"
        " | the mouth is a touch narrower than at rest",
        slight="the lips are puckered a little | the mouth is slightly narrowed and pushed forward"
        " | the lips are somewhat rounded",
        marked="the lips are clearly puckered | the mouth is drawn together and pushed forward"
        " | the lips are rounded, with small creases running into them",
        strong="the lips are puckered into a tight knot | the mouth is drawn together as narrow as it goes"
        " | the lips are pushed far forward and deeply creased",
    ),
    _unit(
        "20", "lip stretcher", "mouth", "risorius with platysma",
        trace="the lips are barely stretched sideways | a hint of a sideways pull shows at the lip corners"
        " | the mouth is just wider than at rest, without turning up",
        slight="the lips are stretched sideways a little | the mouth is slightly widened toward the ears"
        " | the lip corners are pulled somewhat straight back",
        marked="the lips are clearly stretched sideways | the mouth is pulled wide and flat"
        " | the lip corners are drawn straight back toward the ears",
        strong="the lips are stretched sideways as far as they go"
        " | the mouth is pulled wide and taut, and the neck may tighten with it"
        " | the lip corners are dragged back hard and the lips are flattened",
    ),
    _unit(
        "22", "lip funneler", "mouth", "orbicularis oris",
        trace="the lips barely turn outward | a hint of a funnel shows in the shape of the lips"
        " | the inner edges of the lips just begin to show",
        slight="the lips are turned outward a little | the mouth is slightly funnel-shaped"
        " | the lips are somewhat flared forward",
        marked="the lips are clearly turned outward | the mouth forms a funnel"
        " | the lips are flared forward and show their inner side",
        strong="the lips are turned far outward | the mouth is pushed forward into a wide funnel"
        " | the lips are flared as far as they go and bare the teeth in a ring",
    ),
    _unit(
        "23", "lip tightener", "mouth", "orbicularis oris",
        trace="the lips are barely tightened | a touch less red of the lips is in view"
        " | the edges of the lips are just firmer than at rest",
        slight="the lips are slightly tightened | the lips look somewhat thinner"
        " | the red of the lips is rolled in a little",
        marked="the lips are clearly tightened | the lips are thin and firm"
        " | the red of the lips is narrowed to a band",
        strong="the lips are tightened to a thin line | the lips are drawn so firm that little red is left"
        " | the red of the lips has almost vanished",
    ),
    _unit(
        "24", "lip pressor", "mouth", "orbicularis oris",
        trace="the lips are barely pressed together | a hint of pressure shows along the closed lips"
        " | the closed lips are just flatter than at rest",
        slight="the lips are pressed together a little | the closed lips are slightly flattened"
        " | there is some pressure between the lips",
        marked="the lips are clearly pressed together | the closed lips are flattened against each other"
        " | the mouth is shut firmly, and the lips bulge at their edges",
        strong="the lips are pressed together hard | the mouth is clamped shut"
        " | the lips are squeezed together until they whiten or bulge",
    ),
    _unit(
        "25", "lips part", "mouth", "depressor labii inferioris, or relaxed mentalis or orbicularis oris",
        trace="the lips are barely parted | a thin gap shows between the lips | the lips only just come apart",
        slight="the lips are parted a little | the mouth is open by a narrow gap"
        " | a strip of teeth shows between the lips",
        marked="the lips are clearly parted | a wide gap stands between the lips"
        " | the lips are apart and the teeth are in view",
        strong="the lips are far apart | the lips stand wide open"
        " | the full height of the teeth or the inside of the mouth is in view",
    ),
    _unit(
        "26", "jaw drop", "jaw", "masseter; relaxed temporalis and internal pterygoid",
        trace="the jaw is barely lowered | the jaw hangs just below its resting place | the teeth only just come apart",
        slight="the jaw has dropped a little | the jaw hangs slightly open | the teeth are somewhat apart",
        marked="the jaw has clearly dropped | the jaw hangs open | the teeth are well apart and the chin has sunk",
        strong="the jaw has dropped as far as it falls by itself | the jaw hangs wide open"
        " | the chin has sunk far down with the loose jaw",
    ),
    _unit(
        "27", "mouth stretch", "jaw", "pterygoids, digastric",
        trace="the jaw is pulled down by a touch | a hint of a vertical stretch shows in the mouth"
        " | the mouth is just longer from top to bottom than at rest",
        slight="the mouth is stretched open a little | the jaw is pulled down somewhat"
        " | the mouth is slightly drawn out from top to bottom",
        marked="the mouth is clearly stretched open | the jaw is pulled down forcefully"
        " | the cheeks are flattened by the stretched mouth",
        strong="the mouth is stretched open as far as it goes | the jaw is pulled down to its limit"
        " | the mouth stands open as a tall oval and the cheeks are pulled flat",
    ),
    _unit(
        "28", "lip suck", "mouth", "orbicularis oris",
        trace="the lips are barely drawn in | the edges of the lips just begin to roll in"
        " | a hint of an inward roll shows at the lips",
        slight="the lips are rolled in a little | the lips are slightly drawn over the teeth"
        " | part of the red of the lips is tucked in",
        marked="the lips are clearly drawn in over the teeth | most of the red of the lips is rolled in"
        " | the lips are tucked between the teeth",
        strong="the lips are sucked in until no red is left | the lips have disappeared between the teeth"
        " | the skin around the mouth is pulled tight over the hidden lips",
    ),
    _unit(
        "43", "eyes closed", "eyes", "relaxed levator palpebrae superioris, orbicularis oculi",
        trace="the upper lids hang barely lower than at rest | a hint of a droop shows in the upper lids"
        " | the upper lids just begin to sink",
        slight="the upper lids droop a little | the eyes are slightly lowered under their lids"
        " | the upper lids hang somewhat over the irises",
        marked="the upper lids droop clearly | the eyes are half closed"
        " | the upper lids cover a good part of the irises",
        strong="the eyes are closed | the upper lids rest on the lower ones"
        " | the lids are shut and nothing of the irises is in view",
    ),
    _unit(
        "45", "blink", "eyes", "relaxed levator palpebrae superioris, orbicularis oculi",
        trace="the lids may be at the start of a blink | a passing dip of the lids is barely caught"
        " | the lids seem to be just setting off for a blink",
        slight="the lids are a little way into a blink | a passing dip of the lids is caught"
        " | the eyes seem caught early in a blink",
        marked="the lids are well into a blink | the eyes are caught in mid-blink"
        " | the lids are swept down for a moment",
        strong="the eyes are shut in a blink | the lids are caught at the bottom of a blink"
        " | a full blink covers the eyes",
    ),
)  # fmt: skip

ACTION_UNITS: dict[str, ActionUnit] = {unit.code: unit for unit in _UNITS}

# From secondary literature, without intensities and sides: a selection, not the complete tables.
_GUIDE = "Ekman, Friesen & Hager, FACS Investigator's Guide (2002), table 10-1 (selection)"
_EMFACS = "Friesen & Ekman, EMFACS (1983): R12A+R14A, one side of the face and faint"
_CKPLUS = "Lucey et al., CK+ (CVPR workshops 2010), emotion criteria; the alternative with unit 11 left out"
_DU = "Du, Tao & Martinez, Compound facial expressions of emotion (PNAS 2014), table 1; unit 11 left out"
_LLAMA = "Emotion-LLaMA (NeurIPS 2024), rules that made its training labels"

_PROTOTYPES = (
    Prototype("happiness", ("6", "12"), _GUIDE),
    Prototype("happiness", ("12",), _CKPLUS),
    Prototype("happiness", ("12", "25"), _DU, optional=("6",)),
    Prototype("happiness", ("6", "12"), _LLAMA),
    Prototype("surprise", ("1", "2", "5", "26"), _GUIDE),
    Prototype("surprise", ("1", "2", "5", "27"), _GUIDE),
    Prototype("surprise", ("1", "2"), _CKPLUS),
    Prototype("surprise", ("5",), _CKPLUS),
    Prototype("surprise", ("1", "2", "25", "26"), _DU, optional=("5",)),
    Prototype("surprise", ("5", "26"), _LLAMA),
    Prototype("sadness", ("1", "4", "15"), _GUIDE, optional=("17",)),
    Prototype("sadness", ("6", "15"), _GUIDE),
    Prototype("sadness", ("1", "4", "15"), _CKPLUS),
    Prototype("sadness", ("4", "15"), _DU, optional=("1", "6", "17")),
    Prototype("sadness", ("1", "4", "15"), _LLAMA),
    Prototype("anger", ("4", "5", "7", "23"), _GUIDE, optional=("10", "17", "22", "25", "26")),
    Prototype("anger", ("4", "5", "7", "24"), _GUIDE, optional=("17",)),
    Prototype("anger", ("23", "24"), _CKPLUS),
    Prototype("anger", ("4", "7", "24"), _DU, optional=("10", "17", "23")),
    Prototype("anger", ("4", "5", "7", "23"), _LLAMA),
    Prototype("disgust", ("9",), _GUIDE, optional=("15", "16", "17", "25", "26")),
    Prototype("disgust", ("10",), _GUIDE, optional=("16", "17", "25", "26")),
    Prototype("disgust", ("9",), _CKPLUS),
    Prototype("disgust", ("10",), _CKPLUS),
    Prototype("disgust", ("9", "10", "17"), _DU, optional=("4", "24")),
    Prototype("fear", ("1", "2", "4", "5", "20"), _GUIDE, optional=("25", "26", "27")),
    Prototype("fear", ("1", "2", "4"), _CKPLUS, optional=("5",)),
    Prototype("fear", ("1", "4", "20", "25"), _DU, optional=("2", "5", "26")),
    Prototype("contempt", ("12", "14"), _EMFACS),
    Prototype("contempt", ("14",), _CKPLUS),
)

# Neutral has no entry: it is the absence of units, and an empty tuple would match every face.
PROTOTYPES: dict[str, tuple[Prototype, ...]] = {
    emotion: tuple(prototype for prototype in _PROTOTYPES if prototype.emotion == emotion)
    for emotion in dict.fromkeys(prototype.emotion for prototype in _PROTOTYPES)
}


def prototypes_of(label: str) -> tuple[Prototype, ...]:
    """The prototypes of the emotion that a label names; none for neutral and for unknown words."""
    return PROTOTYPES.get(canonical(label) or "", ())


@lru_cache(maxsize=1024)
def typical_units(label: str) -> frozenset[str]:
    """All units in a label's prototypes."""
    return frozenset(code for known in prototypes_of(label) for code in (*known.units, *known.optional))


# Movements that contradict each other, or degrees of one movement, of which FACS scores only one. 1 with 4 and 5 with 7
# are not listed: they pull in opposite directions but occur together and look distinctive (see `COMBINATIONS`).
_OPPOSED = (
    ("5", "43"), ("5", "45"), ("12", "15"), ("18", "20"), ("22", "28"),
    ("24", "25"), ("24", "27"), ("26", "27"), ("43", "45"),
)  # fmt: skip

COMBINATIONS: tuple[Combination, ...] = (
    Combination(("1", "2", "4"), ("the brows are raised and drawn together", "the brows are lifted and straight")),
    Combination(("1", "2"), ("the whole brows are raised", "both brows are lifted over their full length")),
    Combination(("1", "4"), ("the brows are drawn together and slant up in the middle", "the brows run obliquely")),
    Combination(("6", "12"), ("the lip corners and the cheeks are pulled up together",)),
    Combination(("5", "7"), ("the lids are both lifted and tightened, so that the gaze is fixed",)),
    Combination(("9", "10"), ("the nose is wrinkled and the upper lip is drawn up with it",)),
    Combination(("15", "17"), ("the lip corners are drawn down over a raised chin",)),
    Combination(("23", "24"), ("the lips are pressed together and thin",)),
    Combination(("25", "26"), ("the mouth is open with a lowered jaw", "the mouth hangs open")),
    Combination(("25", "27"), ("the mouth is stretched wide open",)),
)
