"""Tables and figures of what all stages made."""
