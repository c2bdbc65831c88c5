"""The reference client app: one client's leads, invoices and AI usage, with its own database and its own
Stripe account.
"""
