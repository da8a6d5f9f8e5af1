"""The servers that stand beside ours."""
