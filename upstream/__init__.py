"""Everything that depends on ActionMesh's internals: checkout, weights, stages, memory, speed-ups.

It depends on facebookresearch/actionmesh at the pinned commit, but on no job and no HTTP. torch and
the checkout are imported inside functions only, after `open_checkout`. Used by the wrapper.
"""
