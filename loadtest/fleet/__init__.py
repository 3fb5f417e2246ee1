"""A fleet in simulated time: the product's own decisions against engines that follow published curves."""
