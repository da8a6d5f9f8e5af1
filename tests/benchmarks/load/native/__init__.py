"""The compiled engine; that it does what the Python one does is tested a folder above."""
