"""Where a body's keypoints are: a kinematic tree with joint limits, turned to the camera. Knows no pixels and no paint.

Body axes: x to the person's left, y up, z forward. Camera axes: x right, y up, z towards the viewer, so a person who
faces the camera has the left side on the right of the picture. Lengths are in heads; adults measure about 5,
for heads drawn somewhat large show where they look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekp.sample import Float
from train.drawn.rotation import about_x, about_y, about_z

Range = tuple[float, float]
Angles = Mapping[str, Range]
LEFT, RIGHT = 0, 1

# Degrees. Every limb angle not listed is 0; ranges stay inside the limits of healthy joints.
_STANDING = {"flex": (-8.0, 10.0), "abduct": (1.0, 11.0), "twist": (-5.0, 25.0), "knee": (0.0, 10.0)}
LEGS: dict[str, tuple[Angles, Angles]] = {  # leading leg, trailing leg
    "stand": (_STANDING, _STANDING),
    "rest": (_STANDING, {"flex": (10.0, 30.0), "abduct": (4.0, 18.0), "twist": (5.0, 30.0), "knee": (15.0, 45.0)}),
    "walk": ({"flex": (15.0, 40.0), "abduct": (0.0, 6.0), "knee": (0.0, 25.0)},
             {"flex": (-25.0, -5.0), "abduct": (0.0, 6.0), "knee": (10.0, 50.0)}),
    "run": ({"flex": (40.0, 80.0), "abduct": (0.0, 8.0), "knee": (40.0, 100.0)},
            {"flex": (-30.0, 5.0), "abduct": (0.0, 8.0), "knee": (20.0, 90.0)}),
    "sit": ({"flex": (70.0, 100.0), "abduct": (2.0, 25.0), "knee": (60.0, 105.0)},
            {"flex": (70.0, 100.0), "abduct": (2.0, 25.0), "knee": (60.0, 105.0)}),
    "squat": ({"flex": (60.0, 110.0), "abduct": (10.0, 35.0), "knee": (80.0, 130.0)},
              {"flex": (60.0, 110.0), "abduct": (10.0, 35.0), "knee": (80.0, 130.0)}),
    "straddle": ({"flex": (0.0, 25.0), "abduct": (15.0, 40.0), "knee": (0.0, 30.0)},
                 {"flex": (0.0, 25.0), "abduct": (15.0, 40.0), "knee": (0.0, 30.0)}),
}
LEG_ODDS = (0.38, 0.17, 0.20, 0.03, 0.09, 0.02, 0.11)
ARMS: dict[str, Angles] = {
    "hang": {"flex": (-12.0, 15.0), "abduct": (4.0, 18.0), "twist": (-30.0, 10.0), "elbow": (3.0, 30.0)},
    "swing": {"flex": (-40.0, 40.0), "abduct": (3.0, 15.0), "twist": (-30.0, 10.0), "elbow": (10.0, 80.0)},
    "akimbo": {"flex": (-25.0, 5.0), "abduct": (30.0, 55.0), "twist": (-80.0, -55.0), "elbow": (70.0, 105.0)},
    "forward": {"flex": (45.0, 100.0), "abduct": (-5.0, 25.0), "twist": (-40.0, 20.0), "elbow": (0.0, 70.0)},
    "up": {"flex": (120.0, 170.0), "abduct": (0.0, 30.0), "twist": (-40.0, 40.0), "elbow": (0.0, 60.0)},
    "aside": {"flex": (-10.0, 20.0), "abduct": (55.0, 110.0), "twist": (-30.0, 30.0), "elbow": (0.0, 50.0)},
    "wave": {"flex": (10.0, 50.0), "abduct": (50.0, 95.0), "twist": (20.0, 70.0), "elbow": (70.0, 120.0)},
    "folded": {"flex": (15.0, 45.0), "abduct": (0.0, 20.0), "twist": (-75.0, -40.0), "elbow": (70.0, 115.0)},
    "carry": {"flex": (-5.0, 25.0), "abduct": (3.0, 15.0), "twist": (-35.0, 5.0), "elbow": (60.0, 110.0)},
}
ARM_ODDS = (0.34, 0.13, 0.11, 0.04, 0.10, 0.14, 0.08, 0.02, 0.04)
TRUNKS: dict[str, Angles] = {
    "upright": {"bend": (-5.0, 10.0), "lean": (-6.0, 6.0), "twist": (-12.0, 12.0)},
    "lean": {"bend": (0.0, 20.0), "lean": (-22.0, 22.0), "twist": (-25.0, 25.0)},
    "bend": {"bend": (25.0, 70.0), "lean": (-10.0, 10.0), "twist": (-20.0, 20.0)},
}
TRUNK_ODDS = (0.76, 0.21, 0.03)
NECK: Angles = {"yaw": (-25.0, 25.0), "nod": (-14.0, 10.0), "tilt": (-15.0, 15.0)}


@dataclass(frozen=True)
class Proportions:
    """Lengths of a body, in heads; ``girth`` multiplies every thickness."""

    torso: float
    shoulders: float
    hips: float
    neck: float
    upper_arm: float
    forearm: float
    hand: float
    thigh: float
    shin: float
    foot: float
    head: float
    girth: float


@dataclass(frozen=True)
class Body:
    """A posed body in camera axes, in heads, the middle of the pelvis at the origin.

    Attributes:
        keypoints: (17, 3) in the order of coco17.
        hands, toes: (2, 3) tips, left then right.
        neck, chest, head: (3,) base of the neck, middle of the rib cage, middle of the skull.
        trunk_axes, head_axes: (3, 3) columns are the part's own left, up and forward.
    """

    keypoints: Float
    hands: Float
    toes: Float
    neck: Float
    chest: Float
    head: Float
    trunk_axes: Float
    head_axes: Float
    proportions: Proportions
    seated: bool


def draw_proportions(rng: np.random.Generator) -> Proportions:
    """A body; one in eight is a child, with a larger head and shorter limbs."""
    child = rng.random() < 0.125
    build = rng.normal(1.0, 0.05, size=12)
    limbs = 0.78 if child else 1.0
    return Proportions(
        torso=1.55 * build[0] * (0.85 if child else 1.0), shoulders=0.70 * build[1] * (0.8 if child else 1.0),
        hips=0.36 * build[2] * (0.85 if child else 1.0), neck=0.28 * build[3], upper_arm=0.95 * build[4] * limbs,
        forearm=0.84 * build[5] * limbs, hand=0.30 * build[6] * limbs, thigh=1.18 * build[7] * limbs,
        shin=1.12 * build[8] * limbs, foot=0.62 * build[9] * limbs, head=1.12 * build[10],
        girth=float(np.clip(rng.normal(1.18, 0.13), 0.9, 1.6)) * (0.9 if child else 1.0))


def draw_body(rng: np.random.Generator) -> Body:
    """A person in a random pose, seen from a random side."""
    proportions = draw_proportions(rng)
    legs = str(rng.choice(list(LEGS), p=LEG_ODDS))
    pelvis = _view(rng)
    trunk_angles = _sample(rng, TRUNKS[str(rng.choice(list(TRUNKS), p=TRUNK_ODDS))])
    trunk = pelvis @ about_x(trunk_angles["bend"]) @ about_z(trunk_angles["lean"]) @ about_y(trunk_angles["twist"])
    hips, knees, ankles, toes = _legs(rng, pelvis, legs, proportions)
    chest = trunk @ np.array([0.0, proportions.torso * 0.62, 0.08])
    neck = trunk @ np.array([0.0, proportions.torso + 0.1, 0.0])
    shoulders, elbows, wrists, hands = _arms(rng, trunk, proportions)
    turn = _sample(rng, NECK)
    head_axes = trunk @ about_y(turn["yaw"]) @ about_x(turn["nod"]) @ about_z(turn["tilt"])
    head = neck + trunk @ np.array([0, proportions.neck, 0.05])
    head = head + head_axes @ np.array([0, 0.42, 0.06]) * proportions.head
    face = head + FACE * proportions.head @ head_axes.T
    sides = np.stack([shoulders, elbows, wrists, hips, knees, ankles]).reshape(12, 3)
    return Body(np.concatenate([face, sides]), hands, toes, neck, chest, head, trunk, head_axes, proportions,
                legs == "sit")


# Nose, left eye, right eye, left ear, right ear on a skull of one head's height, its middle at the origin.
FACE = np.array([[0.0, -0.10, 0.46], [0.16, 0.04, 0.38], [-0.16, 0.04, 0.38], [0.39, -0.04, -0.02],
                 [-0.39, -0.04, -0.02]])


def _view(rng: np.random.Generator) -> Float:
    """Axes of the pelvis: three quarters of the people face the camera more or less, one in seven turns the back."""
    facing = rng.choice([0.0, 180.0, 75.0, -75.0], p=[0.74, 0.14, 0.06, 0.06])
    yaw = facing + rng.normal(0, 18)
    roll = rng.normal(0, 5) if rng.random() < 0.97 else rng.uniform(-90, 90)
    return about_x(rng.uniform(-4, 18)) @ about_z(roll) @ about_y(yaw)


def _legs(rng: np.random.Generator, pelvis: Float, name: str, size: Proportions) -> tuple[Float, Float, Float, Float]:
    """(2, 3) each: hips, knees, ankles, tips of the feet."""
    leading = int(rng.integers(2))
    hips, knees, ankles, toes = np.zeros((4, 2, 3))
    for side, sign in ((LEFT, 1.0), (RIGHT, -1.0)):
        angles = _sample(rng, LEGS[name][0 if side == leading else 1])
        thigh = pelvis @ about_z(sign * angles["abduct"]) @ about_x(-angles["flex"])
        thigh = thigh @ about_y(sign * angles.get("twist", 0.0))
        shin = thigh @ about_x(angles["knee"])
        hips[side] = pelvis @ np.array([sign * size.hips, 0.0, 0.0])
        knees[side] = hips[side] - thigh[:, 1] * size.thigh
        ankles[side] = knees[side] - shin[:, 1] * size.shin
        sole = shin @ about_y(sign * rng.uniform(0, 20)) @ about_x(rng.uniform(0, 30))
        toes[side] = ankles[side] + sole @ np.array([0.0, -0.12, size.foot * 0.8])
    return hips, knees, ankles, toes


def _arms(rng: np.random.Generator, trunk: Float, size: Proportions) -> tuple[Float, Float, Float, Float]:
    """(2, 3) each: shoulders, elbows, wrists, tips of the hands."""
    names = rng.choice(list(ARMS), size=2, p=ARM_ODDS)
    if rng.random() < 0.45:
        names[1] = names[0]
    shoulders, elbows, wrists, hands = np.zeros((4, 2, 3))
    for side, sign in ((LEFT, 1.0), (RIGHT, -1.0)):
        angles = _sample(rng, ARMS[str(names[side])])
        arm = trunk @ about_z(sign * angles["abduct"]) @ about_x(-angles["flex"]) @ about_y(sign * angles["twist"])
        forearm = arm @ about_x(-angles["elbow"])
        lift = 0.12 * max(0.0, angles["flex"] - 90, angles["abduct"] - 60) / 60  # the collar bone rises with the arm
        shoulders[side] = trunk @ np.array([sign * size.shoulders, size.torso - 0.05 + lift, 0.0])
        elbows[side] = shoulders[side] - arm[:, 1] * size.upper_arm
        wrists[side] = elbows[side] - forearm[:, 1] * size.forearm
        hands[side] = wrists[side] - (forearm @ about_x(rng.uniform(-30, 30)))[:, 1] * size.hand
    return shoulders, elbows, wrists, hands


def _sample(rng: np.random.Generator, angles: Angles) -> dict[str, float]:
    return {name: float(rng.uniform(*span)) for name, span in angles.items()}
