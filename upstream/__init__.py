"""All that knows ActionMesh's insides: its checkout, weights, stages, memory and speed-ups.

A craft: it knows pictures, meshes and facebookresearch/actionmesh at the pinned commit, but no job
and no HTTP. torch and the checkout are imported inside functions only, after `open_checkout`.
"""
