"""Which pixels are the subject, in every frame: a clip goes in, a clip with alpha comes out."""
