"""The entries of the report, by stage. Each module lists its functions of a session as ENTRIES."""
