"""A new attribute of a face is one class: rows, JSON, the table and the page show it."""

import pytest

from emoreason.analysis import columns
from emoreason.apps.cli.tables import print_analysis
from emoreason.apps.ui.panel import panel
from emoreason.apps.ui.words import words
from emoreason.evidence.attributes import ATTRIBUTES


class HeadPose:
    """As somebody would add it: the yaw that the detector's landmarks give."""

    name, title = "head_pose", "head"

    def columns(self, unit_codes):
        return ["yaw"]

    def cells(self, face, evidence):
        return {"yaw": face.quality.get("yaw", 0.0)}

    def to_dict(self, face, evidence):
        return {"yaw": face.quality.get("yaw", 0.0)}

    def describe(self, face, evidence):
        return f"turned by {face.quality.get('yaw', 0.0):.0f} degrees"


def test_a_new_attribute_is_shown_everywhere(mini, astronaut, monkeypatch, capsys):
    monkeypatch.setattr("emoreason.analysis.ATTRIBUTES", [*ATTRIBUTES, HeadPose()])
    monkeypatch.setattr("emoreason.apps.ui.panel.ATTRIBUTES", [*ATTRIBUTES, HeadPose()])
    analysis = mini.analyze(astronaut, explain=False)
    assert "yaw" in columns(("a", "b"), ("12",)) and analysis.rows()[0].keys() == set(
        columns(mini.default_labels, mini.reader.unit_codes)
    )
    assert analysis.to_dict()["faces"][0]["yaw"] == analysis.rows()[0]["yaw"] == pytest.approx(-1.5, abs=1)
    print_analysis(analysis)
    assert "head: turned by -" in capsys.readouterr().out
    assert "turned by -" in panel([(1, analysis, analysis.faces[0])], 1, words())


def test_a_picture_without_a_face_has_the_columns_that_every_row_has(mini):
    from PIL import Image

    (row,) = mini.analyze(Image.new("RGB", (300, 300)), explain=False).rows()
    assert row["valence"] is None and row["arousal"] is None and not any(key.startswith("au_") for key in row)
