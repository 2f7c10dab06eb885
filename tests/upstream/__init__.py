"""Tests of upstream/: contracts anywhere, upstream's own code where torch and the checkout are."""
