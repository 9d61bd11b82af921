"""A corpus read with nothing but Zarr, by following docs/corpus-format.md; no code of the project."""

import numpy as np
import zarr


def read(path, index):
    """Return (composite, normal, texture, mask, alpha) of a sample, layers as float16."""
    group = zarr.open_group(path, mode="r")
    manifest = dict(group.attrs)
    assert (manifest["format"], manifest["version"]) == ("layered-tumors-corpus", 3)
    per_shard, shard, rest = manifest["shard_size"], 0, index
    for block in manifest["blocks"]:
        if rest < block["samples"]:
            break
        rest -= block["samples"]
        shard += -(-block["samples"] // per_shard)
    row = (shard + rest // per_shard) * per_shard + rest % per_shard
    alpha = np.float32(group["alpha"][row])
    if manifest["layout"] == "dense":
        return (*(np.asarray(group[name][row]) for name in ("composite", "normal", "texture", "mask")), alpha)

    columns = list(group["recipes"].attrs["columns"])
    source = int(group["recipes"][row, columns.index("normal")])
    normal, roi = np.asarray(group["sources/normal"][source]), np.asarray(group["sources/roi"][source])
    z0, z1, y0, y1, x0, x1 = (int(end) for end in group["box"][row])
    inside = (slice(z0, z1), slice(y0, y1), slice(x0, x1))
    voxels = (z1 - z0) * (y1 - y0) * (x1 - x0)
    packed = np.asarray(group["form"][row, : -(-voxels // 8)])
    form = np.unpackbits(packed, count=voxels, bitorder="little").reshape(z1 - z0, y1 - y0, x1 - x0) > 0
    n = int(form.sum())
    tissue, weight, mask = np.zeros(form.shape, np.float16), np.zeros(form.shape, np.float32), form & (roi[inside] > 0)
    tissue[form], weight[form] = group["layer"][row, :n], alpha
    weight[roi[inside] == 0] = 0
    if "edge" in group:
        edge = np.asarray(group["edge"][row, :n])
        weight[form] *= (edge & 127).astype(np.float32) / np.float32(127)
        mask[form] &= edge >= 128
    below = normal[inside].astype(np.float32)
    blended = (below + weight * (tissue.astype(np.float32) - below)).astype(np.float16)
    composite, texture, whole_mask = normal.copy(), np.zeros_like(normal), np.zeros(normal.shape, np.uint8)
    composite[inside] = np.where(weight > 0, blended, normal[inside])
    generation = next(g for g, first, count in drawn(manifest) if first <= index < first + count)
    target = manifest["generations"][generation]["settings"]["texture_target"]
    texture[inside] = np.where(mask, tissue if target == "texture" else composite[inside], np.float16(0))
    whole_mask[inside] = mask
    return composite, normal, texture, whole_mask, alpha


def drawn(manifest):
    """Yield (generation, first sample, samples) through all blocks."""
    at = 0
    for block in manifest["blocks"]:
        for generation, _, count in block["draws"]:
            yield generation, at, count
            at += count
