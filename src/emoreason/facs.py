"""Action units of the Facial Action Coding System as data: code, name, region, neutral phrases by intensity band."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ActionUnit:
    code: str
    name: str
    region: str
    phrases: dict[str, tuple[str, ...]] = field(default_factory=dict)


ACTION_UNITS: dict[str, ActionUnit] = {
    u.code: u
    for u in (
        ActionUnit("1", "inner brow raiser", "brows"),
        ActionUnit("2", "outer brow raiser", "brows"),
        ActionUnit("4", "brow lowerer", "brows"),
        ActionUnit("5", "upper lid raiser", "eyes"),
        ActionUnit("6", "cheek raiser", "cheeks"),
        ActionUnit("7", "lid tightener", "eyes"),
        ActionUnit("9", "nose wrinkler", "nose"),
        ActionUnit("10", "upper lip raiser", "mouth"),
        ActionUnit("12", "lip corner puller", "mouth"),
        ActionUnit("14", "dimpler", "mouth"),
        ActionUnit("15", "lip corner depressor", "mouth"),
        ActionUnit("16", "lower lip depressor", "mouth"),
        ActionUnit("17", "chin raiser", "chin"),
        ActionUnit("18", "lip pucker", "mouth"),
        ActionUnit("20", "lip stretcher", "mouth"),
        ActionUnit("22", "lip funneler", "mouth"),
        ActionUnit("23", "lip tightener", "mouth"),
        ActionUnit("24", "lip pressor", "mouth"),
        ActionUnit("25", "lips part", "mouth"),
        ActionUnit("26", "jaw drop", "jaw"),
        ActionUnit("27", "mouth stretch", "jaw"),
        ActionUnit("28", "lip suck", "mouth"),
        ActionUnit("43", "eyes closed", "eyes"),
        ActionUnit("45", "blink", "eyes"),
    )
}
