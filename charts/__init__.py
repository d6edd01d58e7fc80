"""The chart's own pages; the chart itself is the folder beside."""
