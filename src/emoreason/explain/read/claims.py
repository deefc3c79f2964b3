"""Finds the action units that a text claims, with band, side and polarity.

It reads anybody's English and knows nothing of how a text was written, so it checks all texts alike. It works clause by
clause: it looks up parts of the face and movements (`lexicon`), attaches each movement to its part, and applies a rule
that names the unit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

from emoreason.explain.read.tokens import Item, read_items
from emoreason.knowledge import lexicon
from emoreason.knowledge.facs import ACTION_UNITS

_PUSHERS = frozenset({"cheek", "chin", "undereye"})  # in "the chin pushes the lower lip up" the chin moves


@dataclass(frozen=True)
class Mention:
    """One action unit that a text claims to be present or, with present=False, absent."""

    action_unit: str
    band: str | None  # None: the text gives no amount
    region: str
    present: bool
    side: str | None  # "left" or "right" if the text says that only this side moves
    text: str
    start: int
    end: int
    stated: str | None = None  # the band if the text itself gives an amount, and not only the kind of movement
    others: tuple[str, ...] = ()  # units that the same words may mean as well


@dataclass
class _Subject:
    """A part of the face in a clause, with the movements that the clause attaches to it."""

    item: Item
    index: int | None  # position in the clause; None: it comes from the clause before
    role: str = "subject"  # or of, place, by
    moves: list[tuple[int, str, bool]] = field(default_factory=list)  # index, movement, whether it is denied


class _Rule(NamedTuple):
    """Which action units a part of the face with certain movements stands for."""

    needs: frozenset[str]
    excludes: frozenset[str]
    units: tuple[tuple[str, bool, tuple[str, ...]], ...]  # code, whether it is present, codes that it may be instead
    default: str | None  # band if the text gives no amount
    fixed: str | None  # band whatever the text says


def mentions(text: str) -> list[Mention]:
    """The action units of a text in order of appearance; a unit counts once per clause."""
    found: list[Mention] = []
    subjects: list[_Subject] = []
    clause: list[Item] = []
    for item in (*read_items(text), Item("stop", ".", ".", len(text), len(text))):
        if item.kind in ("stop", "hard"):
            parsed = _Clause(clause, subjects, text)
            found += _merged(parsed.mentions(text))
            subjects = (
                parsed.current if item.kind == "hard" else []
            )  # "not raised but drawn together" keeps its subject
            clause = []
        else:
            clause.append(item)
    return found


# ---- clauses ---------------------------------------------------------------------------------------------------------

_PARTICLES = frozenset(lexicon.PARTICLES.split())
_ADJECTIVES = frozenset(lexicon.ADJECTIVES.split())
_PUSHES = frozenset({"push", "narrow", "close", "bunch", "up", "squeeze", "wide"})
_PUSHED = frozenset({"eye", "lid", "lowerlid", "lowerlip", "undereye", "aroundeye"})
_RATHER = frozenset({"mostly", "largely", "rather", "relatively", "quite", "fairly"})
_BROWS = frozenset({"brow", "allbrow", "inner", "outer"})
_ADJECTIVAL = ("ed", "en", "wn", "ing", *_ADJECTIVES)
# "They are drawn down and together": the part that a movement without any part belongs to.
_OWNERS = {"down together": "brow", "knit": "brow", "wideopen": "eye"}
_LIPS = frozenset({"lip", "lips", "upperlip", "lowerlip"})
# "Creases stand between the brows": the preposition names the part.
_LOCATED = frozenset({"line", "press", "apart", "slit", "furrow", "dimple", "show"})


class _Clause:
    """One clause: its subjects (parts of the face) with their movements."""

    def __init__(self, items: list[Item], inherited: list[_Subject], words: str):
        self.words = words
        self.items = items
        self.subjects: list[_Subject] = []
        self.units: list[int] = []
        self.current = [_Subject(subject.item, None) for subject in inherited]  # subjects of a movement that names none
        self.subjects += self.current
        self.segments = self._segments()
        self.segment_of = {i: n for n, (_, indices) in enumerate(self.segments) for i in indices}
        self.denied = self._denials()
        self.stretch: list[int] = []  # item -> number of the stretch of text between commas
        for item in items:
            self.stretch.append((self.stretch[-1] if self.stretch else 0) + (item.kind == "comma"))
        pending: list[_Subject] = []
        for joins, indices in self.segments:
            pending = self._attach(indices, pending if "cut" not in joins else [])

    def _segments(self) -> list[tuple[frozenset[str], list[int]]]:
        """Runs of items between commas and conjunctions, each with the words that join it to the run before."""
        segments: list[tuple[frozenset[str], list[int]]] = []
        joins: set[str] = set()
        run: list[int] = []
        for i, item in enumerate(self.items):
            link = item.kind in ("comma", "and", "cut") or item.word == "nor"
            if link and run:
                segments.append((frozenset(joins), run))
                joins, run = set(), []
            if link:
                joins.update((item.kind, item.word))
            if not link or item.word == "nor":
                run.append(i)
        if run:
            segments.append((frozenset(joins), run))
        return segments

    def _denials(self) -> list[bool]:
        """For each item, whether a negation applies to it."""
        denied = [False] * len(self.items)
        no = False
        for n, (joins, indices) in enumerate(self.segments):
            if no and n and not joins & {"or", "nor"}:
                if "cut" in joins:
                    no = False
                elif "and" in joins:
                    no = not self._finite(indices) and not self._contrasts(n)
                else:  # after a comma, only inside a list that ends with "or"
                    no = any(later & {"or", "nor"} for later, _ in self.segments[n:]) and not self._finite(indices)
            for i in indices:
                item = self.items[i]
                after_verb = i > indices[0] and self.items[i - 1].kind == "aux"
                if item.kind == "absent" and after_verb:
                    self._deny(denied, indices[: indices.index(i)])
                elif item.word == "none" and n and not any(self._is_content(k) for k in indices):
                    self._deny(denied, self.segments[n - 1][1])  # "it needs a raised brow, and none is found"
                no = no or item.kind == "not" or (item.kind == "absent" and not after_verb)
                denied[i] = no
        return denied

    def _is_content(self, i: int) -> bool:
        return self.items[i].kind in ("part", "unit") or (self.items[i].kind == "move" and self.items[i].name != "show")

    @staticmethod
    def _deny(denied: list[bool], indices: list[int]) -> None:
        for i in indices:
            denied[i] = True

    def _finite(self, indices: list[int]) -> bool:
        """Whether the segment has a finite verb: "the lips are parted", "is raised", "the lips part"."""
        for i in indices:
            item = self.items[i]
            if item.kind == "aux" or item.word.endswith("n't"):
                return True
            after_part = i - 1 in indices and self.items[i - 1].kind == "part"
            if item.kind == "move" and after_part and not item.word.endswith(("ed", "en", "ing")):
                return True
        return False

    def _contrasts(self, n: int) -> bool:
        """Whether a segment has a part of its own after a denied movement: "not pressed, and the eyes closed"."""
        before, here = self.segments[n - 1][1], self.segments[n][1]
        kinds = [self.items[i].kind for i in here]
        bare = any(
            self.items[i].word.endswith("n't") or (self.items[i].word == "not" and self.items[i + 1].kind != "part")
            for i in before[:-1]
        )
        return bare and "part" in kinds and "move" in kinds

    def _attach(self, indices: list[int], pending: list[_Subject]) -> list[_Subject]:
        """Attach the movements of a segment to their parts; returns parts that still wait for a movement."""
        own = [_Subject(self.items[i], i, self._role(i, indices)) for i in indices if self.items[i].kind == "part"]
        self.subjects += own
        if not own and self._has_other_subject(indices):
            self.current = []
        moved: list[_Subject] = []
        for i in indices:
            item = self.items[i]
            if item.kind == "unit":
                self.units.append(i)
            if item.kind == "move" and (item.name != "neutral" or self._is_neutral(i, own)):
                targets, name = self._targets(i, own, pending)
                for target in targets:
                    target.moves.append((i, name, self.denied[i]))
                moved = targets or moved
        if moved:
            self.current = moved
            return []
        if own and (model := self._echoed(own[-1], indices)):
            own[-1].moves += [(own[-1].index, name, False) for _, name, no in model.moves if not no]  # type: ignore[misc]
            self.current = own[-1:]
            return []
        if own and any(self.items[i].kind in ("aux", "amount") for i in indices if i > own[-1].index):  # type: ignore[operator]
            self.current = own  # "the lids are hidden", "the lids all strong": says all about them
            return []
        if own:
            waiting = [*pending, *(subject for subject in own if self._waits(subject, indices))]
            self.current = waiting or own
            return waiting
        return pending

    def _echoed(self, part: _Subject, indices: list[int]) -> _Subject | None:
        """The part whose movement another part shares: "the outer brows are far up, the inner ones a little"."""
        so = "so" in self.segments[self.segment_of[indices[0]]][0]
        some = any(self.items[i].amount or self.items[i].word in ("too", "likewise", "also") for i in indices)
        for subject in self.current:
            near = {subject.item.name, part.item.name} <= _BROWS and subject.item.name != part.item.name
            if subject.moves and part.role == "subject" and (so or (near and some)) and not self.denied[indices[0]]:
                return subject
        return None

    def _is_of(self, i: int, own: list[_Subject]) -> bool:
        """Whether a noun belongs to a part before it: "lid tension", "the lids show strong tension", "in the lids"."""
        before = i - 1
        while before > 0 and self.items[before].kind == "amount":
            before -= 1
        shown = before >= 0 and self.items[before].name == "show"
        return shown or any(s.index == i - 1 or s.role != "subject" for s in own)

    def _waits(self, subject: _Subject, indices: list[int]) -> bool:
        """Whether a part without a movement may share the next part's ("the brows and the lids are raised")."""
        i = subject.index
        assert i is not None
        if i + 1 in indices and self.items[i + 1].kind == "other":
            return False  # "brow movement"
        return subject.role == "subject" or (i > 0 and self.items[i - 1].word == "of")

    def _has_other_subject(self, indices: list[int]) -> bool:
        """Whether the segment is not about the face: "the picture looks rounded"."""
        pairs = zip(indices, indices[1:], strict=False)
        return any(
            self.items[a].kind == "other" and self.items[b].kind == "aux" and not self.items[a].word.endswith("ly")
            for a, b in pairs
        )

    def _is_neutral(self, i: int, own: list[_Subject]) -> bool:
        """Whether "neutral" describes a part ("the brows remain neutral") and not the face ("a neutral face")."""
        before = self.items[i - 1]
        stated = before.kind in ("aux", "amount") or before.word in _RATHER
        return bool(own) and i > 0 and stated and not before.word.startswith("keep") and not self._gap(before, i)

    def _gap(self, item: Item, i: int) -> str:
        """The dropped words ("the", "a") between an item and the one at `i`."""
        return self.words[item.end : self.items[i].start].strip(" -\n")

    def _role(self, i: int, indices: list[int]) -> str:
        """The role of a part in its segment: subject, or the kind of preposition before it (of, place, by, away)."""
        others = 0
        for before in range(i - 1, indices[0] - 1, -1):
            kind, first = self.items[before].kind, before == indices[0]
            if self.items[before].word == "of" and not first and self.items[before - 1].amount:
                return "subject"  # "a strip of teeth"
            if kind in ("of", "place") and first and any(self.items[k].kind == "move" for k in indices):
                return "subject"  # "beside raised brows", "around the eyes there is tension"
            if kind in ("of", "place", "by", "away"):
                return kind
            others += kind == "other"
            if others > 1 or kind not in ("amount", "side", "move", "other"):
                break
        return "subject"

    def _targets(self, i: int, own: list[_Subject], pending: list[_Subject]) -> tuple[list[_Subject], str]:
        """The parts that a movement belongs to, and the name under which the rules know it."""
        item = self.items[i]
        after = i + 1 + (i + 1 < len(self.items) and self.items[i + 1].kind == "side")
        subjects = [s for s in own if s.index < i and s.role == "subject"]  # type: ignore[operator]
        if item.name == "bare" and any(s.item.name in _LIPS for s in self.current):
            return self.current, item.name  # teeth that a moving lip shows
        following = next((s for s in own if s.index == after), None)
        if following is not None and item.word not in _PARTICLES:
            adjective = item.word in _ADJECTIVES or item.word.endswith(("ed", "en", "wn", "nt", "ing"))
            if adjective and not self._gap(item, after):
                return [following], item.name  # "raised brows"
            agent = subjects[-1:] or self.current
            if agent and agent[0].item.name in _PUSHERS and item.name in _PUSHES:
                return agent, "push"  # "the chin pushes the lower lip up"
            return [following], "covered" if item.name == "cover" else item.name  # "raising the brows"
        later = [s for s in own if s.index > i and s.role != "away"]  # type: ignore[operator]
        agent = [s for s in later if s.role == "by" and s.item.name in _PUSHERS]
        if item.word == "tension" and not later and not self._is_of(i, own):
            return [], item.name  # "puckered lips, which suggest tension"
        if subjects:
            nearest = subjects[-1]
            if agent and nearest.item.name in _PUSHED:
                return agent[:1], "push"  # "the eyes are narrowed by the raised cheeks"
            return ([*pending, nearest] if len(subjects) == 1 else [nearest]), item.name
        located = item.name in _LOCATED or item.word == "tuck"
        named = [s for s in later if s.role == "of" or (located and s.role == "place")]
        named = named or [s for s in later if s.role == "subject"]
        named = named or [s for s in own if s.role == "place" and s.index < i]  # type: ignore[operator]
        named = named or [s for s in reversed(own) if s.role == "of" and s.index < i]  # type: ignore[operator]
        if item.name == "cover" and named:
            return named[:1], "covered"
        found = named[:1] or self.current or [s for s in own if s.role != "away"][:1]
        if not found and not any(other.kind == "part" for other in self.items):
            names = {move.name for move in self.items if move.kind == "move"}
            owners = [owner for move, owner in _OWNERS.items() if set(move.split()) <= names]
            found = [_Subject(Item("part", owner, item.word, item.start, item.end), None) for owner in owners[:1]]
            self.subjects += found
            self.current = found
        return found, item.name

    # ---- from movements to units -------------------------------------------------------------------------------------

    def mentions(self, text: str) -> Iterator[Mention]:
        for i in self.units:
            item = self.items[i]
            segment = self.segments[self.segment_of[i]][1]
            later = [k for k in segment if k > i]
            ended = next((n for n, k in enumerate(later) if self.items[k].kind in ("unit", "part")), len(later))
            denied = self.denied[i] or any(self.items[k].kind == "not" for k in later[: min(ended, 3)])
            amount = item.amount or self._amount(i, {self.segment_of[i]}, own_words=True)
            for code in item.name.split():
                yield _mention(code, amount, not denied, item.side, text, item.start, item.end)
        for subject in self.subjects:
            for denied in (False, True):
                moves = [(i, name) for i, name, no in subject.moves if no == denied]
                yield from self._apply_rules(subject, moves, denied, text)

    def _apply_rules(
        self, subject: _Subject, moves: list[tuple[int, str]], denied: bool, text: str
    ) -> Iterator[Mention]:
        names = {name for _, name in moves}
        for rule in _rules().get(subject.item.name, ()) if names else ():
            if not rule.needs <= names or rule.excludes & names:
                continue
            anchors = [i for i, name in moves if name in rule.needs]
            segments = {self.segment_of[i] for i in anchors}
            if subject.index is not None:
                segments.add(self.segment_of[subject.index])
            stated = rule.fixed or self._amount(anchors[-1], segments)
            marks = [self.items[i] for i in anchors] + ([subject.item] if subject.index is not None else [])
            start, end = min(item.start for item in marks), max(item.end for item in marks)
            for code, present, others in rule.units:
                if present or not denied:
                    found = _mention(code, stated, present and not denied, self._side(subject), text, start, end)
                    band = found.band or (rule.default if found.present else None)
                    yield replace(found, band=band, others=others if found.present else ())

    def _amount(self, anchor: int, segments: set[int], own_words: bool = False) -> str | None:
        """The amount nearest to a movement, within the same stretch between commas and the same segments."""
        near = [
            (item.kind != "amount", i != anchor, abs(i - anchor) + (i > anchor) / 2, item.amount)
            for i, item in enumerate(self.items)
            if item.amount
            and self.stretch[i] == self.stretch[anchor]
            and self.segment_of.get(i) in segments
            and self._measures(i, anchor)
        ]
        near = [found for found in near if not (own_words and found[0])]
        return min(near)[-1] if near else None

    def _measures(self, i: int, anchor: int) -> bool:
        """Whether an amount may belong to a movement: not in "open lips say little" and "high brows are typical"."""
        described = [item.kind for item in self.items[anchor + 1 : anchor + 2]] == ["part"]
        if not described or not self.items[anchor].word.endswith(_ADJECTIVAL):
            return True
        between = {item.kind for item in self.items[anchor + 1 : i]}
        return not (i == anchor and self.items[i].word == "high") and not between & {"aux", "other", "not"}

    def _side(self, subject: _Subject) -> str | None:
        if subject.item.side or subject.index is None:
            return subject.item.side
        indices = self.segments[self.segment_of[subject.index]][1]
        for before in range(subject.index - 1, indices[0] - 1, -1):
            if self.items[before].kind == "side":
                both = before > 1 and self.items[before - 1].kind == "and" and self.items[before - 2].kind == "side"
                return None if both else self.items[before].word
            if self.items[before].kind not in ("move", "amount"):
                break
        for i in indices:
            of_face = i + 1 in indices and self.items[i + 1].kind == "other"  # "on the left face"
            if self.items[i].kind == "side" and i - 1 in indices and self.items[i - 1].kind == "of" and not of_face:
                return self.items[i].word
        return None


def _mention(
    code: str, amount: str | None, present: bool, side: str | None, text: str, start: int, end: int
) -> Mention:
    region = ACTION_UNITS[code].region
    amount = amount if present else None
    return Mention(code, amount, region, present, side, text[start:end], start, end, amount)


def _merged(found: Iterator[Mention]) -> list[Mention]:
    """Merge the mentions of a clause that have the same unit and polarity."""
    merged: dict[tuple[str, bool], Mention] = {}
    for mention in sorted(found, key=lambda mention: (mention.start, mention.end, int(mention.action_unit))):
        key = (mention.action_unit, mention.present)
        first = merged.get(key)
        if first is None:
            merged[key] = mention
        else:
            side = first.side if first.side == mention.side else None
            stated = first.stated or mention.stated
            others = tuple(code for code in first.others if code in mention.others)
            band = stated or first.band or mention.band
            merged[key] = replace(first, band=band, side=side, stated=stated, others=others)
    return list(merged.values())


@cache
def _rules() -> dict[str, list[_Rule]]:
    rules: dict[str, list[_Rule]] = {}
    for line in lexicon.lines(lexicon.RULES):
        part, _, rest = line.partition(":")
        alternatives, _, result = rest.partition("=")
        codes = [(word.lstrip("~").split("/"), word[0] != "~") for word in result.split() if word[0] not in "@!"]
        units = tuple((code, present, tuple(others)) for (code, *others), present in codes)
        amounts = {word[0]: word[1:] for word in result.split() if word[0] in "@!"}
        for moves in (alternative.split() for alternative in alternatives.split("|")):
            needs = frozenset(move for move in moves if move[0] != "-")
            excludes = frozenset(move[1:] for move in moves if move[0] == "-")
            rules.setdefault(part, []).append(_Rule(needs, excludes, units, amounts.get("@"), amounts.get("!")))
    for part, like in (("lip", "lips"), ("allbrow", "brow")):
        rules[part] += [rule for rule in rules[like] if not rule.needs & {"up", "arch"}]
    return rules
