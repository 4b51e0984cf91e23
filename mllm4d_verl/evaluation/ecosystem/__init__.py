"""Questions in the layouts of other evaluation frameworks."""
