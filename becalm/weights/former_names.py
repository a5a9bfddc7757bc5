"""Names in older files of weights, and what they are called now: models, fields of their configuration, tensors."""

from becalm.images.counting_polygons.layout import N_KINDS, OFFSET_SCALE, RADIUS_SCALE, RADIUS_SHIFT

MODELS = {"judge": "digit_classifier", "painter": "coverage"}
"""Former name of a model → its name."""

SRM_TENSORS = {
    "kinship": "attention_bias",
    "hear": "context_in",
    "reply": "context_out",
    "around": "local_conv",
    "beyond": "radial_weights",
    "grains": "pixel_head",
    "see": "enter",
    "tell": "modulation",
    "share": "mix_mean",
}
"""Former part of the name of one of SRM's tensors → its name."""

SRM_CIRCLE = [N_KINDS, OFFSET_SCALE, RADIUS_SCALE, RADIUS_SHIFT]
"""The only circle channels that were ever trained with: those of the layouts of polygons."""


def with_current_names(fields: dict, state: dict) -> tuple[dict, dict]:
    """Metadata and tensors of a file with their present names. Raises ValueError for a model that can no longer be built."""
    name, config = fields.get("model"), fields.get("config")
    fields = fields | {"model": MODELS.get(name, name)}  # type: ignore[arg-type]
    if name == "srm" and isinstance(config, dict) and "power" in config:
        fields |= dict(zip(("model", "config"), srm_config(config), strict=True))
        state = {renamed_tensor(key): tensor for key, tensor in state.items()}
    return fields, state


def renamed_tensor(name: str) -> str:
    """The present name of a tensor of an SRM."""
    return ".".join(str(SRM_TENSORS.get(part, part)) for part in name.split("."))


def srm_config(former: dict) -> tuple[str, dict]:
    """Class and configuration of an SRM stored when one class had the switches of all benchmarks."""
    config = {name: former[name] for name in ("channels", "places", "shape", "shift", "features") if name in former}
    pooled, pixels, categories = former.get("summed"), former.get("grain", 0), former.get("flags", 0)
    config |= {"data_variance": former["power"], "head": former.get("head") or ("residual" if pixels else "clean")}
    convolutions, circle = former.get("near"), former.get("circle")
    if categories:
        if not (convolutions and pooled) or circle != SRM_CIRCLE:
            raise ValueError("flags: need near, summed and the circles of polygons; train such a model anew")
        return "srm_polygons", config
    if convolutions or circle or (pixels and config.get("features") and not pooled):
        raise ValueError("near, circle, or features without summed: train such a model anew")
    if pooled or pixels:
        return "srm_pixels", config | {"pixel_channels": pixels, "pixel_depth": former.get("grain_depth", 3)}
    return "srm", config
