"""Star ratings in XMP sidecars: from scores to what photo programs read, and back by a plan."""
