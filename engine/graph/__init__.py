"""Graphs: servables wired into one request, checked once, resolved into a plan, run under one deadline."""
