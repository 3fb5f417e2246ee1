"""Everything that a site without internet needs, in one directory: made, signed, verified, loaded."""
