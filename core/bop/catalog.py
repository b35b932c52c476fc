"""Facts about BOP data sets that their files don't state: object names and which ones the papers call symmetric."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sopose.core.bop.models import default_name

TARGETS_NAME = "test_targets_bop19.json"
DATASETS_FOLDER = Path("datasets/BOP_DATASETS")  # where data sets are looked for by name

Kind = Literal["real", "pbr", "syn", "cad"]

LM_NAMES = [
    "ape",
    "benchvise",
    "bowl",
    "camera",
    "can",
    "cat",
    "cup",
    "driller",
    "duck",
    "eggbox",
    "glue",
    "holepuncher",
    "iron",
    "lamp",
    "phone",
]
YCBV_NAMES = [
    "002_master_chef_can",
    "003_cracker_box",
    "004_sugar_box",
    "005_tomato_soup_can",
    "006_mustard_bottle",
    "007_tuna_fish_can",
    "008_pudding_box",
    "009_gelatin_box",
    "010_potted_meat_can",
    "011_banana",
    "019_pitcher_base",
    "021_bleach_cleanser",
    "024_bowl",
    "025_mug",
    "035_power_drill",
    "036_wood_block",
    "037_scissors",
    "040_large_marker",
    "051_large_clamp",
    "052_extra_large_clamp",
    "061_foam_brick",
]
TOY_NAMES = ["bracket", "mug", "cross", "bottle"]


def _numbered(names: Iterable[str]) -> dict[int, str]:
    return dict(enumerate(names, start=1))


def _unnamed(count: int) -> dict[int, str]:
    return {obj_id: default_name(obj_id) for obj_id in range(1, count + 1)}


@dataclass(frozen=True)
class BopDataset:
    """Facts about a BOP data set that its files don't state.

    `symmetric_ids` are the objects that the papers score as symmetric (ADD-S); None: those to which
    `models_info.json` gives symmetries. `split_kinds` names the splits whose images are not of the
    kind their folder's name says. `sensor` is the one that BOP means where a set was taken with several.
    """

    folder: str
    object_names: dict[int, str]
    symmetric_ids: tuple[int, ...] | None = None
    models_folder: str = "models"
    split_kinds: tuple[tuple[str, Kind], ...] = ()
    sensor: str = ""


RENDERED_TRAIN: tuple[tuple[str, Kind], ...] = (("train", "syn"),)  # single objects before black


LM = BopDataset("lm", _numbered(LM_NAMES), symmetric_ids=(3, 7, 10, 11), split_kinds=RENDERED_TRAIN)
LMO = BopDataset("lmo", {k: LM.object_names[k] for k in (1, 5, 6, 8, 9, 10, 11, 12)}, symmetric_ids=(10, 11))
YCBV = BopDataset("ycbv", _numbered(YCBV_NAMES), symmetric_ids=(13, 16, 19, 20, 21))
TOY = BopDataset("toy", _numbered(TOY_NAMES), symmetric_ids=(3, 4), split_kinds=(("train", "pbr"), ("test", "pbr")))
DATASETS = {
    dataset.folder: dataset
    for dataset in (
        LM,
        LMO,
        YCBV,
        TOY,
        BopDataset("tless", _unnamed(30), models_folder="models_cad", sensor="primesense"),
        BopDataset("tudl", {1: "dragon", 2: "frog", 3: "can"}),
        BopDataset("icbin", {1: "coffee_cup", 2: "juice_carton"}, split_kinds=RENDERED_TRAIN),
        BopDataset("itodd", _unnamed(28)),
        BopDataset("hb", _unnamed(33), sensor="primesense"),
        BopDataset("hope", _unnamed(28)),
        BopDataset("hopev2", _unnamed(28)),
        BopDataset("ruapc", _unnamed(14), split_kinds=RENDERED_TRAIN),
        BopDataset("icmi", _unnamed(6), split_kinds=RENDERED_TRAIN),
        BopDataset("tyol", _unnamed(21)),
        BopDataset("handal", _unnamed(40)),
    )
}


def dataset_name(root: Path) -> str:
    """The name by which a folder's data set is known: the one that is given, or its real one where only that is known.

    A folder may be a link, as `bop/lmo` to `disk/LM-O`.
    """
    given, real = Path(os.path.abspath(root)).name, Path(root).resolve().name
    return real if real in DATASETS and given not in DATASETS else given


def known_dataset(root: Path) -> BopDataset | None:
    """The facts about the data set in a folder; None for one that its files describe alone."""
    return DATASETS.get(dataset_name(root))
