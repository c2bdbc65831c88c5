"""Comparing the portal's books with others. Reads only: a difference is shown, with its class, never
repaired here.
"""
