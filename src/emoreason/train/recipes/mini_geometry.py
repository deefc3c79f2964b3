"""Action-unit intensities from facial landmarks: the teacher of the mini encoder's action-unit head.

No public action-unit model is available offline, so intensities come from geometry, in three steps that can be checked:

1. **Pose.** The 478 FaceMesh points (x, y, depth) are rotated, scaled and moved onto a mean face, using the points that
   no expression moves (eye corners, nose bridge, forehead, temples). The unit of length is the distance between the
   outer eye corners.
2. **Measures.** Each unit is measured by one or two distances on the aligned face, such as the height of the lip
   corners above the lips.
3. **Comparison with neutral faces.** A line fitted on *neutral* faces removes the remaining effect of pose. The
   residual is divided by its robust spread there, which gives a z-score; at most one neutral face in twenty exceeds
   1.645. The intensity is 0 up to z = 1 and 1 from z = 4 on, so about one neutral face in twenty shows a unit above
   0.2.

One picture cannot separate the build of a face (low brows, thin lips) from an expression, so an intensity is evidence
and not a FACS code. Units that geometry cannot determine are left out: see `UNDETERMINED`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

# FaceMesh point numbers. "Right" is the person's right: the left side of the picture.
RIGHT_EYE: dict[str, Any] = {"outer": 33, "inner": 133, "upper": (160, 159, 158), "lower": (144, 145, 153)}
LEFT_EYE: dict[str, Any] = {"outer": 263, "inner": 362, "upper": (387, 386, 385), "lower": (373, 374, 380)}
BROWS_INNER, BROWS_OUTER = ((107, 55), (336, 285)), ((70, 46), (300, 276))
BROW_ENDS, BROW_TAILS = (55, 285), (46, 276)  # lower edge of the brows, at the nose and at the temples
SUBNASALE, CHIN = 2, 152
LIP_CORNERS, UPPER_LIP, LOWER_LIP, LIPS_INNER = (61, 291), (37, 0, 267), (84, 17, 314), (13, 14)
RIGID = (33, 133, 362, 263, 168, 6, 197, 195, 10, 127, 356, 234, 454, 109, 338)

Z_ZERO, Z_ONE = 1.0, 4.0  # z-scores of intensity 0 and 1
MAX_YAW = 40.0  # degrees; beyond this, the landmarks of the far half of the face are guesses


@dataclass(frozen=True)
class Determined:
    """An action unit that geometry can determine."""

    code: str
    measures: tuple[tuple[str, float], ...]  # (name in MEASURES, sign): the mean of the signed z-scores
    grade: str  # "good", "fair" or "weak": how well geometry determines it
    why: str


UNITS: tuple[Determined, ...] = (
    Determined(
        "1", (("inner_brow_height", 1),), "fair", "the brow's inner end moves visibly; high brows are also build"
    ),
    Determined("2", (("outer_brow_height", 1),), "fair", "as unit 1, at the outer end"),
    Determined(
        "4", (("inner_brow_low", -1), ("brow_slope", -1)), "fair", "inner brow ends come down, below the outer ends"
    ),
    Determined("5", (("upper_lid_height", 1),), "good", "the upper lid rises above the line of the eye corners"),
    Determined(
        "7", (("lower_lid_depth", -1), ("eye_opening", -1)), "fair", "narrowed eyes; a smile's cheeks do the same"
    ),
    Determined("12", (("corner_height", 1), ("mouth_width", 1)), "good", "lip corners up and apart"),
    Determined(
        "15", (("corner_height", -1), ("corner_over_lower_lip", -1)), "weak", "lip corners down; small movements"
    ),
    Determined(
        "24", (("lip_height", -1),), "weak", "the red of the lips gets thin while the mouth is shut; also build"
    ),
    Determined("25", (("lip_gap", 1),), "good", "the inner lips part"),
    Determined(
        "26", (("jaw_length", 1), ("lip_gap", 1)), "good", "the chin drops away from the nose and the lips part"
    ),
    Determined(
        "27", (("jaw_length", 1), ("lip_gap_ratio", 1)), "fair", "a mouth open as high as wide: the end of unit 26"
    ),
    Determined(
        "43", (("eye_opening", -1),), "fair", "lids nearly meet; at 48 pixels one pixel is a quarter of an open eye"
    ),
)
UNDETERMINED = {
    "6": "raised cheeks show in skin folds; the lid measure that is left belongs to unit 7",
    "9": "the nose measure followed smiles (AUC 0.73) and not disgust (0.48): the wrinkles are not in the landmarks",
    "10": "the lip-to-nose distance followed smiles (AUC 0.79) and not disgust (0.49)",
    "14": "dimples are skin texture",
    "16": "the lower lip's own depression cannot be told from the dropping jaw",
    "17": "the chin's distance followed the closed mouth, and the wrinkled chin boss is texture",
    "18": "puckering shows in depth, which one picture gives too coarsely",
    "20": "stretched lips could not be told from a weak smile (fear AUC 0.50)",
    "22": "funnelled lips show in depth",
    "23": "tightened lips differ from pressed lips (24) by texture only",
    "28": "sucked-in lips and thin lips look alike at this resolution",
    "45": "a blink is a movement in time; the closed eye is unit 43",
}


def _mean(points: np.ndarray, numbers) -> np.ndarray:
    """(n, 478, 3) -> (n, 3)."""
    return points[:, list(numbers)].mean(axis=1)


def align(points: np.ndarray, template: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 478, 3) pixels -> points in the template's pose and scale; (n, 3) yaw, pitch, roll in degrees (Kabsch)."""
    rigid = points[:, RIGID]
    centre, target = rigid.mean(axis=1, keepdims=True), template[list(RIGID)]
    target_centre = target.mean(axis=0)
    source, goal = rigid - centre, target - target_centre
    u, s, vt = np.linalg.svd(np.einsum("nki,kj->nij", source, goal))
    flip = np.ones((len(points), 3))
    flip[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * flip[:, None, :]) @ vt  # row vectors: aligned = source @ rotation
    scale = (s * flip).sum(axis=1) / (source**2).sum(axis=(1, 2))
    aligned = (points - centre) @ rotation * scale[:, None, None] + target_centre
    inverse = rotation.transpose(0, 2, 1)  # template -> picture
    yaw = np.degrees(np.arctan2(inverse[:, 2, 0], inverse[:, 2, 2]))
    pitch = np.degrees(-np.arcsin(np.clip(inverse[:, 2, 1], -1, 1)))
    roll = np.degrees(np.arctan2(inverse[:, 0, 1], inverse[:, 0, 0]))
    return aligned, np.stack([yaw, pitch, roll], axis=1)


def mean_face(points: np.ndarray, rounds: int = 3) -> np.ndarray:
    """Generalised Procrustes: (n, 478, 3) -> (478, 3), symmetric, facing the camera, outer eye corners 1 apart."""
    template = np.median(points - points[:, RIGID].mean(axis=1, keepdims=True), axis=0)
    for _ in range(rounds):
        template = np.median(align(points, template)[0], axis=0)
        template = _facing(template)
    return template


def _facing(face: np.ndarray) -> np.ndarray:
    """Turn a face (478, 3): the eye line becomes the x axis, forehead to chin the y axis; outer eye corners 1 apart."""
    x = face[263] - face[33]
    x = x / (length := np.linalg.norm(x))
    y = face[CHIN] - face[10]
    y = y - (y @ x) * x
    y = y / np.linalg.norm(y)
    axes = np.stack([x, y, np.cross(x, y)])
    return (face - face[168]) @ axes.T / length


def measures(aligned: np.ndarray) -> dict[str, np.ndarray]:
    """(n, 478, 3) in the mean face's pose -> name -> (n,). y points down, so 'above' means a smaller y."""
    sides = (RIGHT_EYE, LEFT_EYE)
    corners = [(aligned[:, e["outer"]] + aligned[:, e["inner"]]) / 2 for e in sides]
    upper = [_mean(aligned, e["upper"]) for e in sides]
    lower = [_mean(aligned, e["lower"]) for e in sides]
    lips = (_mean(aligned, UPPER_LIP) + _mean(aligned, LOWER_LIP)) / 2
    inner_corner = (aligned[:, 133] + aligned[:, 362]) / 2
    outer_corner = (aligned[:, 33] + aligned[:, 263]) / 2
    mouth_corners = _mean(aligned, LIP_CORNERS)
    width = np.linalg.norm(aligned[:, 61] - aligned[:, 291], axis=1)
    gap = np.linalg.norm(aligned[:, LIPS_INNER[0]] - aligned[:, LIPS_INNER[1]], axis=1)
    return {
        "inner_brow_height": inner_corner[:, 1] - np.mean([_mean(aligned, b)[:, 1] for b in BROWS_INNER], axis=0),
        "outer_brow_height": outer_corner[:, 1] - np.mean([_mean(aligned, b)[:, 1] for b in BROWS_OUTER], axis=0),
        "inner_brow_low": inner_corner[:, 1] - _mean(aligned, BROW_ENDS)[:, 1],
        "brow_slope": _mean(aligned, BROW_TAILS)[:, 1] - _mean(aligned, BROW_ENDS)[:, 1],
        "upper_lid_height": np.mean([c[:, 1] - u[:, 1] for c, u in zip(corners, upper, strict=True)], axis=0),
        "lower_lid_depth": np.mean([low[:, 1] - c[:, 1] for c, low in zip(corners, lower, strict=True)], axis=0),
        "eye_opening": np.mean([low[:, 1] - u[:, 1] for u, low in zip(upper, lower, strict=True)], axis=0),
        "corner_height": lips[:, 1] - mouth_corners[:, 1],
        "corner_over_lower_lip": aligned[:, LIPS_INNER[1], 1] - mouth_corners[:, 1],
        "mouth_width": width,
        "lip_gap": gap,
        "lip_gap_ratio": gap / width,
        "lip_height": np.linalg.norm(_mean(aligned, UPPER_LIP) - _mean(aligned, LOWER_LIP), axis=1),
        "jaw_length": aligned[:, CHIN, 1] - aligned[:, SUBNASALE, 1],
    }


def _pose_terms(pose: np.ndarray) -> np.ndarray:
    """(n, 3) degrees -> (n, 5) regressors for the effect of head pose that remains after alignment."""
    yaw, pitch = pose[:, 0] / 30, pose[:, 1] / 30
    return np.stack([np.ones_like(yaw), np.abs(yaw), yaw**2, pitch, pitch**2], axis=1)


@dataclass(frozen=True)
class Neutral:
    """The measures of neutral faces, the reference for all intensities."""

    template: np.ndarray  # (478, 3)
    lines: dict[str, np.ndarray]  # measure -> (5,) coefficients on the pose terms
    spreads: dict[str, float]  # measure -> robust standard deviation of the residual
    units: dict[str, tuple[float, float]]  # unit -> centre and spread of its mean z-score


def _robust(values: np.ndarray) -> tuple[float, float]:
    """Robust centre and spread; the spread covers a heavy upper tail (parted lips are common in neutral faces)."""
    centre = float(np.median(values))
    mad = 1.4826 * float(np.median(np.abs(values - centre)))
    return centre, max(mad, (float(np.quantile(values, 0.95)) - centre) / 1.645)


def fit_neutral(points: np.ndarray) -> Neutral:
    """Fit the reference on the landmarks (n, 478, 3) of neutral faces."""
    template = mean_face(points)
    aligned, pose = align(points, template)
    keep = np.abs(pose[:, 0]) < MAX_YAW
    terms = _pose_terms(pose[keep])
    lines, spreads, scored = {}, {}, {}
    for name, values in measures(aligned[keep]).items():
        line = np.linalg.lstsq(terms, values, rcond=None)[0]
        for _ in range(3):  # refit without outliers, so that a few non-neutral faces do not tilt the line
            rest = values - terms @ line
            spread = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
            inlier = np.abs(rest) < 3 * spread
            line = np.linalg.lstsq(terms[inlier], values[inlier], rcond=None)[0]
        lines[name], spreads[name] = line, spread
        scored[name] = (values - terms @ line) / spread
    units = {unit.code: _robust(_mean_z(unit, scored)) for unit in UNITS}
    return Neutral(template, lines, spreads, units)


def _mean_z(unit: Determined, scored: dict[str, np.ndarray]) -> np.ndarray:
    return np.mean([sign * scored[name] for name, sign in unit.measures], axis=0)


def unit_scores(points: np.ndarray, neutral: Neutral) -> tuple[np.ndarray, np.ndarray]:
    """(n, 478, 3) -> (n, len(UNITS)) z-scores against neutral faces, and the pose (n, 3) in degrees."""
    aligned, pose = align(points, neutral.template)
    terms = _pose_terms(pose)
    scored = {k: (v - terms @ neutral.lines[k]) / neutral.spreads[k] for k, v in measures(aligned).items()}
    columns = []
    for unit in UNITS:
        centre, spread = neutral.units[unit.code]
        columns.append((_mean_z(unit, scored) - centre) / spread)
    return np.stack(columns, axis=1), pose


def intensities(points: np.ndarray, neutral: Neutral) -> np.ndarray:
    """(n, 478, 3) -> (n, len(UNITS)) in 0..1; a row is NaN if no face was found or it is turned too far."""
    result = np.full((len(points), len(UNITS)), np.nan, dtype=np.float32)
    found = ~np.isnan(points).any(axis=(1, 2))
    if not found.any():
        return result
    scores, pose = unit_scores(points[found].astype(np.float64), neutral)
    values = np.clip((scores - Z_ZERO) / (Z_ONE - Z_ZERO), 0, 1)
    values[np.abs(pose[:, 0]) > MAX_YAW] = np.nan
    result[found] = values
    return result
