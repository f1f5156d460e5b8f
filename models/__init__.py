"""The encoders: their manifest, their files, and how they are built."""
