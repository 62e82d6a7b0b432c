"""A Faust worker made safe, and the edges of its stages."""
