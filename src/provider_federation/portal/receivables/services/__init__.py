"""What becomes of the provider's invoices after they left: corrections, refunds, disputes, dunning,
statements.
"""
