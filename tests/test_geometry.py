"""Landmarks to action units: pose must not matter; moving a part of the face moves its unit and no opposite one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoreason.knowledge.facs import ACTION_UNITS
from emoreason.train.recipes import mini_geometry as geometry
from test_train import face_mesh

CODES = [unit.code for unit in geometry.UNITS]


@pytest.fixture(scope="module")
def neutral() -> geometry.Neutral:
    return geometry.fit_neutral(face_mesh(400, np.random.default_rng(0)))


def still_face(n: int = 1) -> np.ndarray:
    return face_mesh(n, np.random.default_rng(0), noise=0.0)


def moved(points: list[int], by: tuple[float, float, float]) -> np.ndarray:
    face = still_face()
    face[:, points] += by
    return face


def turned(face: np.ndarray, yaw: float, pitch: float, roll: float) -> np.ndarray:
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return (face - 24) @ (about_z @ about_x @ about_y).T + 24


def intensity(face: np.ndarray, neutral: geometry.Neutral) -> dict[str, float]:
    return dict(zip(CODES, geometry.intensities(face, neutral)[0], strict=True))


def test_neutral_faces_show_little(neutral):
    shown = geometry.intensities(face_mesh(400, np.random.default_rng(1)), neutral) > 0.2
    assert shown.mean(axis=0).max() < 0.1  # about one in twenty, by construction of the scale


@pytest.mark.parametrize(
    ("points", "by", "up", "down"),
    [
        ([61, 291], (0, -3, 0), "12", "15"),
        ([61, 291], (0, 3, 0), "15", "12"),
        ([107, 55, 336, 285], (0, -3, 0), "1", "4"),
        ([107, 55, 336, 285], (0, 3, 0), "4", "1"),
        ([70, 46, 300, 276], (0, -3, 0), "2", "43"),
        ([158, 159, 160, 385, 386, 387], (0, -1.5, 0), "5", "43"),
        ([158, 159, 160, 385, 386, 387], (0, 2.5, 0), "43", "5"),
        ([144, 145, 153, 373, 374, 380], (0, -1.5, 0), "7", "5"),
        ([14, 17, 84, 314, 152], (0, 6, 0), "26", "24"),
        ([14], (0, 2, 0), "25", "24"),
    ],
)
def test_moving_a_part_moves_its_unit(neutral, points, by, up, down):
    shown = intensity(moved(points, by), neutral)
    assert shown[up] > 0.5 and shown[down] == 0, shown


@settings(max_examples=30, deadline=None)
@given(
    yaw=st.floats(-30, 30),
    pitch=st.floats(-20, 20),
    roll=st.floats(-40, 40),
    size=st.floats(0.3, 4),
    x=st.floats(-50, 50),
)
def test_pose_size_and_place_do_not_matter(neutral, yaw, pitch, roll, size, x):
    """The part of a turn that alignment undoes exactly: rigid motion of the same face in space."""
    face = moved([61, 291], (0, -3, 0))
    aligned, pose = geometry.align(turned(face, yaw, pitch, roll) * size + x, neutral.template)
    straight, _ = geometry.align(face, neutral.template)
    for name, value in geometry.measures(aligned).items():
        assert value[0] == pytest.approx(geometry.measures(straight)[name][0], abs=1e-6), name
    if abs(pitch) < 1e-9 and abs(roll) < 1e-9:
        assert abs(pose[0, 0]) == pytest.approx(abs(yaw), abs=3)


def test_unfound_and_turned_away_faces_have_no_units(neutral):
    faces = np.concatenate([still_face(2), turned(still_face(), 60, 0, 0)])
    faces[0] = np.nan
    units = geometry.intensities(faces, neutral)
    assert np.isnan(units[0]).all() and not np.isnan(units[1]).any() and np.isnan(units[2]).all()
    assert np.isnan(geometry.intensities(np.full((2, 478, 3), np.nan), neutral)).all()


def test_every_unit_is_either_determined_or_explained():
    determined, given_up = set(CODES), set(geometry.UNDETERMINED)
    assert not determined & given_up
    assert determined | given_up == set(ACTION_UNITS)
    assert {unit.grade for unit in geometry.UNITS} <= {"good", "fair", "weak"}
