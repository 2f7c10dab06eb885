"""Output files from mesh arrays: GLB, zip, USD, Blender formats, videos. Depends on no job."""
