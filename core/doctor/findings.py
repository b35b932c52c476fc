"""What an examination finds: codes that stay, how severe each is, what to do, and how findings are reported."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sopose.core.utils.errors import UserError

KEPT = 100  # findings of a kind that are kept with their words; the others are counted


class Severity(StrEnum):
    """How much a finding matters, the worst first."""

    ERROR = "error"  # training or scores are wrong, or stop
    WARNING = "warning"  # probably not meant so
    NOTE = "note"  # good to know


@dataclass(frozen=True)
class Kind:
    """What all findings of one code have in common."""

    code: str
    severity: Severity
    title: str
    remedy: str


@dataclass(frozen=True)
class Place:
    """An instance that can be drawn."""

    split: str  # its folder
    scene: str  # its folder's name
    im_id: int
    gt_index: int
    sensor: str = ""  # of a scene that has several


@dataclass(frozen=True)
class Finding:
    """One fault: where it is (file and entry, below the data set's folder) and what is wrong there."""

    code: str
    where: str
    what: str
    place: Place | None = None
    badness: float = 0.0  # the worst of a kind are listed and drawn first

    @property
    def kind(self) -> Kind:
        """What is known of its code."""
        return KINDS[self.code]


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_MM = "BOP's files are in millimetres: multiply by 1000"
_RECOMPUTE = "remove the scene's scene_gt_info.json and let sopose targets write it again"
KINDS = {
    code: Kind(code, severity, title, remedy)
    for code, severity, title, remedy in (
        ("json-broken", _E, "a json file is missing or cannot be read", "restore it from its archive"),
        ("absent", _N, "a part is not there", "nothing, where it is not needed; else download it"),
        # Models.
        ("model-missing", _E, "an object has no mesh", "add the .ply, or remove its entry"),
        ("model-broken", _E, "a mesh cannot be used", "export it again with triangles and finite vertices"),
        ("model-unit", _E, "a mesh or its sizes are not in millimetres", _MM),
        (
            "model-size",
            _E,
            "models_info.json and mesh differ",
            "write it with sopose.core.bop.models.write_models_info",
        ),
        ("model-entry", _E, "models_info.json lacks an entry, or it is broken", "add what is named"),
        ("model-stray", _E, "vertices without a face widen a mesh", "remove them: sizes are measured with them"),
        ("model-unused", _N, "a mesh has vertices without a face", "nothing: they change no size"),
        (
            "model-origin",
            _N,
            "a mesh's origin is not in its middle",
            "nothing: networks learn about the middle, poses are of the origin; BOP's VSD is lower the farther it is",
        ),
        ("model-texture", _N, "a mesh has texture coordinates and no texture", "add its image to render from CAD"),
        ("symmetry", _E, "a symmetry changes its mesh", "correct or remove it: poses are compared by it"),
        ("symmetry-unit", _E, "a symmetry's translation is in metres", _MM),
        ("symmetry-broken", _E, "a symmetry is no rigid motion", "write 16 numbers, row by row, last row 0 0 0 1"),
        ("symmetry-many", _W, "an object has very many symmetries", "write one about an axis as continuous"),
        # Cameras.
        ("camera-json", _E, "camera.json is incomplete", "give fx, fy, cx, cy, width, height in pixels"),
        ("K-broken", _E, "cam_K is missing or no camera's", "write fx 0 cx 0 fy cy 0 0 1, row by row"),
        ("K-principal", _E, "the principal point is not of this image size", "scale cam_K with the images"),
        ("K-focal", _W, "focal lengths are unusual", "check that they are in pixels, not millimetres"),
        (
            "camera-focal",
            _E,
            "camera.json has another focal length than the scenes",
            "correct fx, fy: it takes renders",
        ),
        ("depth-scale", _E, "depth images and poses are apart", "depth_scale is millimetres per step of the file"),
        # Annotations.
        ("scene-twice", _E, "two folders are of one scene id", "rename or remove one: which is read isn't known"),
        ("scene-ids", _E, "a scene's json files have different images", "give every image to all of them"),
        ("image-unannotated", _W, "an image has no list in scene_gt.json", "annotate it, or give it an empty list"),
        ("gt-length", _E, "scene_gt.json and scene_gt_info.json differ in length", _RECOMPUTE),
        ("gt-broken", _E, "an annotation cannot be read", "repair the entry"),
        ("gt-rotation", _E, "cam_R_m2c is no rotation", "write an orthonormal matrix of determinant 1, row by row"),
        ("gt-unit", _E, "cam_t_m2c is not in millimetres", _MM),
        ("gt-behind", _E, "an object is behind the camera", "BOP's camera looks along +z, y down"),
        ("gt-object", _E, "an object id has no model", "correct obj_id, or add the model"),
        ("gt-duplicate", _E, "an object is annotated twice at one place", "remove one of the two"),
        # Files.
        ("image-missing", _E, "an image's file is missing", "restore it, or remove its entries"),
        ("image-name", _W, "files are not named as BOP names them", "rename them: other programs don't find them"),
        ("image-broken", _E, "an image cannot be decoded", "restore the file"),
        ("image-size", _E, "an image has another size than its scene's", "crop or scale images and cam_K together"),
        ("camera-size", _W, "images have another size than in camera.json", "correct camera.json, or scale the images"),
        ("image-twice", _W, "several files are of one image", "remove those that are not read"),
        ("image-unlisted", _W, "a file has no entry in the json files", "annotate it, or remove it"),
        ("image-duplicate", _W, "two images have the same content", "remove one: it counts twice, or leaks to a test"),
        ("image-turned", _W, "an image is turned by its EXIF tag", "store it turned: programs differ"),
        ("image-dark", _W, "an image of 16 bits has the values of 10 to 14", "scale them up: it is read nearly black"),
        ("image-format", _N, "an image is not 8 bit with three channels", "nothing: it is read as if it were"),
        ("mask-missing", _E, "a mask's file is missing", "restore it; sopose targets writes missing masks"),
        ("mask-size", _E, "a mask or depth image has another size than its image", "scale it with the image"),
        ("mask-values", _W, "a mask has values between black and white", "store 0 and 255 without loss (png)"),
        ("mask-empty", _E, "a mask is empty and its object is in the image", "restore it"),
        ("depth-missing", _W, "a depth image is missing", "restore it, or do without depth"),
        # Poses, masks and boxes against each other.
        ("pose-mask", _E, "pose and mask don't fit", "see the picture; check pose, units, cam_K and mask"),
        ("pose-loose", _W, "pose and mask fit badly", "see the picture; refine the pose or the mask"),
        ("mask-order", _E, "a mask is another instance's", "number masks in the order of scene_gt.json"),
        ("mask-inverted", _E, "a mask is inverted", "objects are 255, all else 0"),
        ("visib-outside", _E, "mask_visib leaves mask", "the visible part is within the whole; check which is which"),
        ("visib-pose", _W, "mask_visib covers what a nearer object hides", "check the depth order and mask_visib"),
        (
            "visib-missing",
            _E,
            "mask_visib lacks what the depth image shows",
            "remove it and scene_gt_info.json; make them anew",
        ),
        ("info-broken", _E, "an entry of scene_gt_info.json cannot be read", _RECOMPUTE),
        ("box-obj", _E, "bbox_obj doesn't fit", f"x, y, width, height in pixels; or {_RECOMPUTE}"),
        ("box-visib", _E, "bbox_visib doesn't fit", f"x, y, width, height in pixels; or {_RECOMPUTE}"),
        ("visib-fract", _E, "visib_fract doesn't fit", f"px_count_visib / px_count_all; or {_RECOMPUTE}"),
        ("px-count", _E, "counts of pixels don't fit", _RECOMPUTE),
        # Targets.
        ("target-broken", _E, "a target cannot be read", "write the file again by sopose targets"),
        ("target-image", _E, "a target's image does not exist", "write the file again by sopose targets"),
        ("target-object", _E, "a target's object is not in its image", "write the file again by sopose targets"),
        ("target-count", _E, "inst_count is wrong", "write the file again by sopose targets"),
        ("target-duplicate", _E, "a target is listed twice", "write the file again by sopose targets"),
        ("list-broken", _E, "a line of a list of images cannot be read", "write scene/image, or its number alone"),
        ("list-image", _W, "a listed image does not exist", "remove the line, or restore the image: it is left out"),
    )
}


class Findings:
    """Findings by kind: all counted, the worst of each kept."""

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self._counts: Counter[str] = Counter()
        self._kept: dict[str, list[Finding]] = defaultdict(list)
        self.add(findings)

    def add(self, findings: Iterable[Finding]) -> None:
        """Take some more."""
        for finding in findings:
            kept = self._kept[finding.code]
            self._counts[finding.code] += 1
            kept.append(finding)
            if len(kept) >= 2 * KEPT:
                kept[:] = _worst_first(kept)[:KEPT]

    def __iter__(self) -> Iterator[tuple[Kind, int, list[Finding]]]:
        """Each kind that was found, errors first, with its count and its worst findings."""
        order = list(KINDS)
        severities = list(Severity)
        for code in sorted(self._counts, key=lambda code: (severities.index(KINDS[code].severity), order.index(code))):
            yield KINDS[code], self._counts[code], _worst_first(self._kept[code])[:KEPT]

    def count(self, severity: Severity) -> int:
        """How many there are of a severity."""
        return sum(count for code, count in self._counts.items() if KINDS[code].severity is severity)

    def summary(self) -> str:
        """`2 errors, 1 warning, no notes`."""
        return ", ".join(_counted(self.count(severity), severity.value) for severity in Severity)


def format_findings(findings: Findings, examples: int = 3) -> str:
    """A table: for each kind a line with its count and what to do, below it the worst `examples`, one a line."""
    lines = []
    for kind, count, worst in findings:
        lines += [f"{kind.severity:8}{kind.code:18}{count:6}  {kind.title}: {kind.remedy}"]
        lines += [f"{'':10}{finding.where}: {finding.what}" for finding in worst[:examples]]
        if count > examples:
            lines.append(f"{'':10}… and {count - examples} more")
    return "\n".join(lines)


def words_of(error: UserError, path: Path) -> str:
    """An error's words without the path, which its finding names."""
    return str(error).replace(f"{path} ", "").replace(f"{path}, ", "").replace(f"{path}: ", "")


def _worst_first(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: -finding.badness)


def _counted(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"
