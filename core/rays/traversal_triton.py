"""The walk of `traversal_torch` as a Triton kernel: one lane per ray, no stack, nothing compiled ahead.

Import it only where Triton is installed. With TRITON_INTERPRET=1 set before Triton's first import it runs on
the CPU, for tests.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sopose.core.rays.bvh import END, LEAF_FACES
from sopose.core.rays.raycast import EDGE_TOLERANCE
from sopose.core.rays.traversal_torch import MIN_SLOPE, Hierarchies, Rays

# A program is one warp: its lanes leave the loop together, so that a long ray keeps few others waiting.
BLOCK, WARPS = 32, 1
CONSTANTS = {"leaf_faces": LEAF_FACES, "tolerance": EDGE_TOLERANCE, "min_slope": MIN_SLOPE, "block": BLOCK}


def traverse(tables: Hierarchies, rays: Rays, any_hit: bool = False) -> Tensor:
    """As `traversal_torch.traverse`."""
    answer = torch.full_like(rays.root, END)
    if len(answer) == 0:
        return answer
    # Triton launches on the current device, which need not be that of the rays.
    with torch.cuda.device_of(answer):
        _launch(tables, rays, answer, any_hit)
    return answer


def _launch(tables: Hierarchies, rays: Rays, answer: Tensor, any_hit: bool) -> None:
    """Write the slots of `rays` to `answer`."""
    count = len(answer)
    _walk[(triton.cdiv(count, BLOCK),)](
        rays.origins.contiguous(),
        rays.directions.contiguous(),
        rays.reach.contiguous(),
        rays.root.contiguous(),
        tables.boxes,
        tables.slots,
        tables.links,
        tables.functions,
        answer,
        count,
        len(tables.boxes),
        any_hit=any_hit,
        **CONSTANTS,
        num_warps=WARPS,
    )


@triton.jit
def _slab(low, high, start, slope, min_slope: tl.constexpr):
    """Where rays enter and leave the space between two planes across one axis."""
    tiny = tl.where(slope < 0, -min_slope, min_slope)
    inverse = 1.0 / tl.where(tl.abs(slope) < min_slope, tiny, slope)
    one, other = (low - start) * inverse, (high - start) * inverse
    return tl.minimum(one, other), tl.maximum(one, other)


@triton.jit
def _row(functions, row: tl.constexpr, present, ox, oy, oz, dx, dy, dz):
    """An affine function's value at the rays' origins, and its slope along them."""
    x = tl.load(functions + 4 * row, mask=present, other=0.0)
    y = tl.load(functions + 4 * row + 1, mask=present, other=0.0)
    z = tl.load(functions + 4 * row + 2, mask=present, other=0.0)
    offset = tl.load(functions + 4 * row + 3, mask=present, other=0.0)
    return x * ox + y * oy + z * oz + offset, x * dx + y * dy + z * dz


@triton.jit
def _walk(
    origins,
    directions,
    reaches,
    roots,
    boxes,
    slots,
    links,
    functions,
    answer,
    count,
    nodes,
    any_hit: tl.constexpr,
    leaf_faces: tl.constexpr,
    tolerance: tl.constexpr,
    min_slope: tl.constexpr,
    block: tl.constexpr,
):
    """Walk the tree of boxes with `block` rays at once; `answer` takes the slot of each ray's triangle, or -1."""
    ray = (tl.program_id(0) * block + tl.arange(0, block)).to(tl.int64)
    valid = ray < count
    ox = tl.load(origins + 3 * ray, mask=valid, other=0.0)
    oy = tl.load(origins + 3 * ray + 1, mask=valid, other=0.0)
    oz = tl.load(origins + 3 * ray + 2, mask=valid, other=0.0)
    dx = tl.load(directions + 3 * ray, mask=valid, other=1.0)
    dy = tl.load(directions + 3 * ray + 1, mask=valid, other=1.0)
    dz = tl.load(directions + 3 * ray + 2, mask=valid, other=1.0)
    sx, sy, sz = ox.to(tl.float32), oy.to(tl.float32), oz.to(tl.float32)
    tx, ty, tz = dx.to(tl.float32), dy.to(tl.float32), dz.to(tl.float32)
    reach = tl.load(reaches + ray, mask=valid, other=0.0)
    node = tl.load(roots + ray, mask=valid, other=-1)
    octant = (dx < 0).to(tl.int64) + 2 * (dy < 0).to(tl.int64) + 4 * (dz < 0).to(tl.int64)
    links += 2 * octant * nodes
    found = tl.full([block], -1, tl.int32)

    while tl.max(node, axis=0) >= 0:
        alive = node >= 0
        at = tl.where(alive, node, 0).to(tl.int64)
        box = boxes + 6 * at
        enter_x, leave_x = _slab(tl.load(box), tl.load(box + 3), sx, tx, min_slope)
        enter_y, leave_y = _slab(tl.load(box + 1), tl.load(box + 4), sy, ty, min_slope)
        enter_z, leave_z = _slab(tl.load(box + 2), tl.load(box + 5), sz, tz, min_slope)
        enter = tl.maximum(tl.maximum(enter_x, enter_y), tl.maximum(enter_z, 0.0))
        leave = tl.minimum(tl.minimum(leave_x, leave_y), leave_z)
        met = alive & (enter <= leave) & (enter <= reach)
        filled = tl.load(slots + 2 * at + 1, mask=met, other=0)
        if tl.max(filled, axis=0) > 0:
            first = tl.load(slots + 2 * at, mask=met, other=0)
            for offset in range(leaf_faces):
                present = filled > offset
                triangle = functions + 12 * (first + offset).to(tl.int64)
                height, sinking = _row(triangle, 0, present, ox, oy, oz, dx, dy, dz)
                second, second_slope = _row(triangle, 1, present, ox, oy, oz, dx, dy, dz)
                third, third_slope = _row(triangle, 2, present, ox, oy, oz, dx, dy, dz)
                # A triangle seen from its edge, which would divide by zero, is not met.
                safe = tl.where(sinking == 0, 1.0, sinking)
                depth = -height / safe
                second += depth * second_slope
                third += depth * third_slope
                lowest = tl.minimum(tl.minimum(second, third), 1 - second - third)
                nearer = present & (sinking != 0) & (lowest >= -tolerance) & (depth > 0) & (depth < reach)
                reach = tl.where(nearer, depth, reach)
                found = tl.where(nearer, first + offset, found)
        following = tl.load(links + 2 * at + tl.where(met, 0, 1), mask=alive, other=-1)
        if any_hit:
            following = tl.where(found >= 0, -1, following)
        node = following
    tl.store(answer + ray, found, mask=valid)
