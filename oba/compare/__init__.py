"""What differs between two studies, experiments, chains or nets: asked of their files, without torch."""
