"""One file per data set, each with ``open_source(config: DataConfig) -> ArraySource | ImageFiles``."""
