"""The door's craft: what untrusted bytes are, before anything decodes them. Knows no job."""
