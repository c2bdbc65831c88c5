"""The demonstration: a Stripe simulator, a portal with its worker and several instances, as separate
processes.

It starts them as a person would, by the command line, and speaks to them as a person or a program would,
over HTTP.
It reaches into nobody's database.
"""
