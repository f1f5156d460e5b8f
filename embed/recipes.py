"""Versions of what happens around each encoder: features, descriptions, pooling.

A version grows when the same events and the same weights would give other rows; every index then
embeds its days again. They stand here, apart from the embedders, for who must not load an encoder.
"""

RECIPES = {"timeseries": 2, "semantic": 3, "attack": 1}
