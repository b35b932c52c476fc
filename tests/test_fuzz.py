"""Files of anybody, damaged in any way: a value or one line; no traceback, no crash, no hang, no gigabyte."""

from __future__ import annotations

import copy
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sopose.core.engine.checkpoint import save_weights
from tests.support.bop_files import K, R, write_tiny_bop
from tests.support.ply_files import XYZ, columns, indices, ply

SECONDS, MEGABYTES = 10, 1024
QUICK, MANY = 12, 400  # files of a kind
CORNERS = [(0.0, 0, 0), (50.0, 0, 0), (0, 40.0, 0), (0, 0, 30.0), (50.0, 40.0, 0)]
FACES = [[0, 2, 4, 1], [0, 1, 3], [0, 3, 2], [1, 4, 3], [2, 3, 4]]
OBJ = b"mtllib part.mtl\nv 0 0 0\nv 9 0 0\nv 0 9 0\nv 0 0 9\nvt 0 0\nvt 1 1\nusemtl m\n"
OBJ += b"f 1/1 3/2 2/1\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
MTL = b"newmtl m\nKd 0.5 0.2 1\nmap_Kd -s 2 2 1 tex.png\nd 1\n"
CONFIG = """_base_ = ["gdrn_base.py"]
__few = 2
SOLVER = dict(IMS_PER_BATCH=__few * 2, OPTIMIZER_CFG=dict(_delete_=True, type="AdamW", lr=1e-3))
DATASETS = {"TRAIN": ("toy_train",), "OBJS": ["a", "b"]}
"""
YAML = "SOLVER: &s\n  IMS_PER_BATCH: 4\n  GAMMA: 1e-1\nDATASETS:\n  TRAIN: [a, b]\n  OBJS: []\nSEED: 0x1F\n"
# What parsers stumble over, in bytes and as values of json.
WORDS = (
    *(b"", b"\x00", b"\xff\xfe", b"\xc3\xa9", b"\x1b[2J", b"\n", b"\r", b'"', b"{", b"[" * 300, b",", b"/", b"\\"),
    *(b"nan", b"inf", b"1e999", b"-1", b"9" * 30, b"9" * 5000, b"1" + b"0" * 400, b"4294967295"),
    *(b"-9223372036854775809", b"null", b"int", b"list uchar", b"element face 2000000000\n"),
    *(b"%s", b"*a", b"&a [*a, *a]", b"../../etc/passwd"),
)
VALUES = (
    *(None, True, -1, 0, 10**30, 10**400, 2**63, 1e308, float("nan"), float("inf"), "", "x", "\x00", "9" * 5000),
    *([], [[]], {}, {"a": {}}, [0] * 9, [1e308] * 16, ["x"] * 3, [[1, 2], [3]], "../..", 65536, 10**9),
)


class Reader:
    """A process of `fuzz_reader`, begun again when a file has cost it its life."""

    def __init__(self, good: dict[str, Path]) -> None:
        self.good, self.process = good, None

    def start(self) -> None:
        quiet = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "tests.support.fuzz_reader"]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet},
        )
        for name, path in self.good.items():
            outcome, words, _ = self.ask(name.split()[0], path, 120)
            assert outcome == "value" or "to run alone" in words or "facts" in words, (name, words)
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def ask(self, kind: str, path: Path, seconds: float = SECONDS) -> tuple[str, str, int]:
        self.process.stdin.write(f"{kind} {path}\n".encode())
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else b""
        if line:
            return tuple(json.loads(line))
        self.stop()
        return "fault", "the process died" if ready else f"no answer within {seconds} s", 0

    def read(self, kind: str, path: Path) -> None:
        """Have a file read, and judge the outcome."""
        if self.process is None:
            self.start()
        outcome, words, megabytes = self.ask(kind, path)
        if megabytes >= MEGABYTES:
            self.stop()
        assert outcome in ("value", "refused"), f"{words}\nof {path.read_bytes()[:2000]!r}"
        assert megabytes < MEGABYTES, f"{megabytes} MB for {path.read_bytes()[:2000]!r}"

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def good(tmp_path_factory, repository) -> dict[str, Path]:
    """A good file of each kind, by `kind name`; what lies beside it is as it should be."""
    root = tmp_path_factory.mktemp("fuzz")
    tiny = write_tiny_bop(root / "mini")
    (tiny / "camera.json").write_text(json.dumps({"fx": 1.0, "fy": 1, "cx": 2, "cy": 3, "width": 64, "height": 48}))
    row = f"1,2,3,0.9,{' '.join(map(str, R))},{' '.join(map(str, K[:3]))},0.1"
    (root / "a_toy-test.csv").write_text(f"scene_id,im_id,obj_id,score,R,t,time\n{row}\n{row}\n")
    box = {"scene_id": 1, "image_id": 2, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5, "time": 0.1}
    (root / "boxes.json").write_text(json.dumps([box, box]))
    uv = columns(("texture_u", "texture_v"), "float", [(0.1, 0.2)] * 5)
    colors = columns(("red", "green", "blue"), "uchar", [(1, 2, 3)] * 5)
    for form in ("ascii", "binary_little_endian"):
        body = [*columns(XYZ, "float", CORNERS), *colors, *uv]
        (root / f"{form}.ply").write_bytes(ply(form, body, indices(FACES), [b"TextureFile tex.png"]))
    Image.new("RGB", (8, 8), "red").save(root / "tex.png")
    Image.new("RGB", (8, 8), "red").save(root / "a.jpg", exif=Image.Exif())
    Image.new("RGB", (8, 8), "red").save(root / "a.tiff")
    for name, content in (("part.obj", OBJ), ("part.mtl", MTL), ("c.py", CONFIG.encode()), ("c.yaml", YAML.encode())):
        (root / name).write_bytes(content)
    (root / "c.json").write_text(json.dumps({"SOLVER": {"IMS_PER_BATCH": 4}, "DATASETS": {"TRAIN": ["a"]}}))
    for suffix in ("glb", "stl", "off"):
        trimesh.creation.icosahedron().export(root / f"a.{suffix}")
    demo = Path(repository / "configs/gdrn_selfocc/toy/demo.safetensors").read_bytes()
    header = json.loads(demo[8 : 8 + int.from_bytes(demo[:8], "little")])
    facts = json.loads(header["__metadata__"]["facts"])
    (root / "facts.json").write_text(json.dumps(facts))
    weights = {"a.weight": torch.ones(3, 2), "b": torch.zeros(4, dtype=torch.float16)}
    save_weights(weights, root / "a.safetensors", facts)
    save_weights(weights, root / "a.pth", facts)
    torch.save(weights, root / "old.pth", _use_new_zipfile_serialization=False)
    np.savez_compressed(root / "a.npz", P=np.ones((4, 4, 3), np.float16), text=np.array("x"))
    scene = tiny / "test" / "000001"
    return {
        "csv": root / "a_toy-test.csv",
        "detections": root / "boxes.json",
        "targets": tiny / "test_targets_bop19.json",
        "camera": tiny / "camera.json",
        **{f"scene {name}": scene / f"{name}.json" for name in ("scene_gt", "scene_camera", "scene_gt_info")},
        "models_info": tiny / "models" / "models_info.json",
        "ply ascii": root / "ascii.ply",
        "ply binary": root / "binary_little_endian.ply",
        "mesh obj": root / "part.obj",
        "mtl": root / "part.mtl",
        **{f"mesh {suffix}": root / f"a.{suffix}" for suffix in ("glb", "stl", "off")},
        **{f"config {suffix}": root / f"c.{suffix}" for suffix in ("py", "yaml", "json")},
        "weights safetensors": root / "a.safetensors",
        "weights pth": root / "a.pth",
        "weights old": root / "old.pth",
        "facts": root / "facts.json",
        "arrays": root / "a.npz",
        **{f"image {name}": root / name for name in ("tex.png", "a.jpg", "a.tiff")},
    }


@pytest.fixture(scope="module")
def reader(good) -> Iterator[Reader]:
    reader = Reader(good)
    yield reader
    reader.stop()


Edit = tuple[float, int, bytes]  # where, how many bytes are replaced, by what
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from([0, 0, 1, 1, 2, 4, 8, 30, 10**9]),
        st.sampled_from(WORDS) | st.binary(max_size=8),
    ),
    min_size=1,
    max_size=4,
)
CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(VALUES)), min_size=1, max_size=3)


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """Bytes with parts of them replaced; where no byte is taken, the words stand between two lines."""
    for where, taken, words in edits:
        at = int(where * len(data))
        data = data[:at] + words + data[at + taken :]
    return data


def changed(content: Any, changes: list[tuple[int, Any]]) -> Any:
    """Values of json with some of them replaced, at any depth."""
    for number, value in changes:
        places = [*places_of(content)]
        owner, key = places[number % len(places)]
        owner[key] = copy.deepcopy(value)
    return content


def places_of(content: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield content, key
        yield from places_of(content[key])


KINDS = (
    *("csv", "detections", "targets", "camera", "scene scene_gt", "scene scene_camera", "scene scene_gt_info"),
    *("models_info", "ply ascii", "ply binary", "mesh obj", "mtl", "mesh glb", "mesh stl", "mesh off", "config py"),
    *("config yaml", "config json", "weights safetensors", "weights pth", "weights old", "facts", "arrays"),
    *("image tex.png", "image a.jpg", "image a.tiff"),
)
JSONS = [
    kind for kind in KINDS if kind.split()[0] in ("detections", "targets", "camera", "scene", "models_info", "facts")
]
JSONS += ["config json"]
COUNTS = pytest.mark.parametrize("count", [QUICK, pytest.param(MANY, marks=pytest.mark.slow)])


def fuzz(reader: Reader, good: dict[str, Path], kind: str, count: int, contents: st.SearchStrategy[bytes]) -> None:
    """Put `count` contents in the place of a good file, and have each read."""
    path = good[kind]
    whole = path.read_bytes()

    @settings(deadline=None, max_examples=count, derandomize=True, database=None, suppress_health_check=HealthCheck)
    @given(contents)
    def read(content: bytes) -> None:
        path.write_bytes(content)
        reader.read(kind.split()[0], path)

    try:
        read()
    finally:
        path.write_bytes(whole)


@COUNTS
@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_give_a_value_or_one_line(reader, good, kind, count):
    whole = good[kind].read_bytes()
    fuzz(reader, good, kind, count, EDITS.map(lambda edits: edited(whole, edits)))


@COUNTS
@pytest.mark.parametrize("kind", JSONS)
def test_any_values_give_a_value_or_one_line(reader, good, kind, count):
    whole = good[kind].read_text()
    fuzz(
        reader, good, kind, count, CHANGES.map(lambda changes: json.dumps(changed(json.loads(whole), changes)).encode())
    )


@COUNTS
def test_any_facts_in_the_metadata_of_onnx_give_a_value_or_one_line(reader, good, tmp_path, count):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    facts = good["facts"].read_text()
    graph = pose_graph(onnx)
    path = tmp_path / "a.onnx"

    def content(changes: list[tuple[int, Any]], edits: list[Edit]) -> bytes:
        text = json.dumps(changed(json.loads(facts), changes))
        damaged = edited(text.encode(), edits).decode("utf-8", errors="replace")
        onnx.helper.set_model_props(graph, {"facts": damaged})
        return graph.SerializeToString()

    path.write_bytes(content([(0, None)], []))
    fuzz(reader, {"onnx": path}, "onnx", count, st.builds(content, CHANGES, EDITS | st.just([])))


def pose_graph(onnx: Any) -> Any:
    """A graph of the names that ours have, which gives back a part of its input."""
    from sopose.inference.onnx_network import POSE

    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in POSE]
    nodes = [onnx.helper.make_node("Identity", ["image"], [name]) for name in POSE]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", [image], outputs), opset_imports=[onnx.helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    return model
