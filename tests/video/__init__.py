"""Tests of video/, with clips that the bundled ffmpeg makes."""
