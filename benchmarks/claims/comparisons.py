"""Who is compared with whom for each claim: two looks at trained arms, the side that the claim favours first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.claims.answers import MEAN_POSE, Look
from benchmarks.claims.arms import ARMS, LARGE_SIGMA, SIGMA
from benchmarks.claims.measures import AP, MEAN_OKS, MEDIAN_PX, NME, Measure
from benchmarks.claims.training import RAW, SECOND


@dataclass(frozen=True)
class Comparison:
    """One row of the answer.

    Attributes:
        claim: its number in CLAIMS.
        about: who is held against whom, on what.
        favoured, other: the claim says that the first is better.
        claimed: the size of the gain that the source names; 0 where it only says better.
        as_share: the gain is a share of the other's value, for scores as well.
    """

    claim: str
    about: str
    favoured: Look
    other: Look
    measure: Measure
    claimed: float = 0.0
    as_share: bool = False

    @property
    def arms(self) -> set[str]:
        """Names of the arms that have to be trained."""
        return {look.arm for look in (self.favoured, self.other)} & ARMS.keys()

    @property
    def splits(self) -> set[tuple[str, str]]:
        """(set, split) of everything that is learnt from or measured on."""
        learnt = {(each, "train") for arm in self.arms for each in ARMS[arm].train_sets}
        constant = {(look.test, "train") for look in (self.favoured, self.other) if look.arm == MEAN_POSE}
        return learnt | constant | {(self.favoured.test, "val"), (self.other.test, "val")}


PEOPLE = Look("people", "people")
SMALL = Look("small-fpn", "small people"), Look("small-plain", "small people")

COMPARISONS = (
    Comparison("C1", "heatmaps against direct regression, drawn people", PEOPLE, Look("people-direct", "people"),
               MEDIAN_PX),
    Comparison("C1", "heatmaps against direct regression, faces", Look("faces-small-sigma", "faces"),
               Look("faces-wing", "faces"), NME),
    Comparison("C2", f"faces with precise labels: sigma {SIGMA:g} against {LARGE_SIGMA:g} cells",
               Look("faces-small-sigma", "faces"), Look("faces-large-sigma", "faces"), NME),
    Comparison("C2", f"faces with shaky labels: sigma {LARGE_SIGMA:g} against {SIGMA:g} cells",
               Look("fuzzy-large-sigma", "faces"), Look("fuzzy-small-sigma", "faces"), NME),
    Comparison("C3", "quadratic refinement against the highest cell, same maps", replace(PEOPLE, refine="quadratic"),
               replace(PEOPLE, refine="none"), MEDIAN_PX),
    Comparison("C4", "squeeze and excitation in every block against none", Look("people-se", "people"), PEOPLE,
               MEAN_OKS),
    Comparison("C4", "CBAM in every block against none", Look("people-cbam", "people"), PEOPLE, MEAN_OKS),
    Comparison("C7", "offsets against the highest cell of the same maps", Look("people-offset", "people"),
               Look("people-offset", "people", refine="none"), MEDIAN_PX),
    Comparison("C8", "FPN against the coarsest map upsampled, small people", *SMALL, MEAN_OKS),
    Comparison("C11", "learnt together against alone, drawn people", Look("bodies-and-faces", "people"),
               Look("bodies-alone", "people"), MEDIAN_PX, claimed=0.023),
    Comparison("C11", "learnt together against alone, faces", Look("bodies-and-faces", "faces", weights=SECOND),
               Look("faces-alone", "faces"), NME, claimed=0.023),
    Comparison("C13", "FPN against the coarsest map upsampled, small people", *SMALL, AP, claimed=0.17, as_share=True),
    Comparison("C16", "Wing against squared error, direct regression of faces", Look("faces-wing", "faces"),
               Look("faces-mse", "faces"), NME),
    Comparison("C18", f"a Gaussian of sigma {SIGMA:g} against one cell of 1", PEOPLE, Look("people-one-cell", "people"),
               MEAN_OKS),
    Comparison("C18", "the mean pose for everybody against one cell of 1", Look(MEAN_POSE, "people"),
               Look("people-one-cell", "people"), MEAN_OKS),
    Comparison("C19", "HalfBody at 0.3 against none, people behind a table",
               Look("people-half-body", "people behind a table"), Look("people", "people behind a table"), MEAN_OKS),
    Comparison("EMA", "averaged weights against those of the last step, same training", PEOPLE,
               replace(PEOPLE, weights=RAW), MEAN_OKS),
    Comparison("DARK", "DARK against quadratic refinement, same maps", PEOPLE, replace(PEOPLE, refine="quadratic"),
               MEDIAN_PX),
)
