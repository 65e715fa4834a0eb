"""What scripts get of a source: typed events, packets, and tables for Arrow and Parquet."""
