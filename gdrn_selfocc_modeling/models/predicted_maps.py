"""A network's maps in the one form that is kept and drawn."""

from __future__ import annotations

from sopose.batch import PredictedMaps, Prediction
from sopose.layers import likeliest_coordinate
from sopose.models.map_forms import PnPInput, mask_probability


def read_maps(prediction: Prediction, form: PnPInput) -> PredictedMaps:
    """What a prediction's maps say; `form` is how the network gives mask and coordinates. On the same device, float32.

    The region's probability is that which Patch-PnP gets: among all regions, the background left out.
    """
    prediction = prediction.map(lambda tensor: tensor.detach().float())
    P, Q = prediction.xyz, prediction.q
    if form.bins:
        P, Q = (None if maps is None else likeliest_coordinate(maps, form.bins) for maps in (P, Q))
    probability, region = None, None
    if prediction.region is not None:
        probability, region = prediction.region[:, 1:].softmax(dim=1).max(dim=1)
        region = (region + 1).short()
    return PredictedMaps(mask_probability(prediction.mask, form.mask_type)[:, 0], P, Q, region, probability)
